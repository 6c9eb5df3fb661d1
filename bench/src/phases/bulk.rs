//! Connections between real stacks that leave segmentation and checksums to the device, as containers do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use tests::responder::Server;

use super::{datagrams::PORTS, flows, in_turn};
use crate::gateway::{Candidate, Order, Protocol};
use crate::measure::Measure;
use crate::napi::Times;
use crate::net::Net;
use crate::rig::Wiring;
use crate::session::{Contender, Session};

const ORDER: Order = Order {
    protocol: Protocol::Tcp,
    v6: false,
    rules: 1,
    ports: PORTS,
    flows: 10_000,
};

/// How much is written at a time.
const BLOCK: usize = 128 * 1024;

pub(super) fn run(session: &mut Session) -> Result<()> {
    // Segments that have no checksum yet are nothing that XDP can send on; `auto` takes TC there.
    let takes_part =
        |it: Candidate| !matches!(it, Candidate::Ceiling | Candidate::Xdp | Candidate::Auto);
    let mut contenders = session.wired(&ORDER, Wiring::SuperPackets, takes_part)?;
    let servers: Result<Vec<Server>> = contenders
        .iter()
        .map(|it| {
            Server::start(
                &it.rig.hosts.sink,
                &format!("0.0.0.0:{}", Net::PORT),
                swallow,
            )
        })
        .collect();
    for round in 0..session.rounds {
        for connections in [1, 16] {
            for contender in in_turn(&mut contenders, round) {
                let outcome = transfer(contender, connections, session.time() * 2);
                let measures = [Measure::BulkTcp, Measure::BulkCost];
                let case = flows(connections);
                session.record_all(measures, &case, contender.candidate, outcome);
            }
        }
    }
    drop(servers?);
    Ok(())
}

/// Reads whatever comes.
fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a client connects to.
fn target(contender: &Contender) -> SocketAddr {
    let pair = if contender.candidate.translates() {
        Net::LISTENER
    } else {
        Net::BACKEND
    };
    SocketAddr::new(Net::pick(false, pair), Net::PORT)
}

/// Gigabits of payload a second, and nanoseconds of the gateway's CPU for each kilobyte.
fn transfer(contender: &mut Contender, connections: u32, time: Duration) -> Result<[f64; 2]> {
    let target = target(contender);
    let stop = AtomicBool::new(false);
    let streams = Mutex::new(Vec::new());
    let send = || -> Result<()> {
        let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        if let Ok(mut streams) = streams.lock() {
            streams.push(stream.try_clone()?);
        }
        let block = vec![0; BLOCK];
        while !stop.load(Ordering::Relaxed) {
            // One that is slower than a look at the clock does not matter.
            if stream.write(&block).is_err() {
                break;
            }
        }
        reset(&stream)
    };
    let generator = &contender.rig.hosts.generator;
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| generator.run(send)?))
            .collect();
        std::thread::sleep(time / 4);
        let look = || {
            streams
                .lock()
                .map_or(0, |it| it.iter().map(acknowledged).sum())
        };
        let times = || Times::of(contender.rig.gateway());
        let (started, before, begun) = (Instant::now(), look(), times()?);
        std::thread::sleep(time);
        let (bytes, (cpu, _)) = (look() - before, times()?.since(begun));
        let seconds = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            let sent = sender.join();
            sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .context("sending")?;
        }
        anyhow::ensure!(bytes > 0, "nothing was acknowledged");
        Ok([
            bytes as f64 * 8.0 / seconds / 1e9,
            cpu.as_nanos() as f64 / (bytes as f64 / 1000.0),
        ])
    })
}

/// Bytes that the receiver has acknowledged, by `tcpi_bytes_acked` (Linux 4.1, commit 0df48c26d841).
fn acknowledged(stream: &TcpStream) -> u64 {
    use std::os::fd::AsRawFd as _;
    // The field's offset in struct tcp_info of include/uapi/linux/tcp.h.
    const OFFSET: usize = 120;
    let mut info = [0_u8; OFFSET + 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the buffer is live and as long as is said.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return 0;
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&info[OFFSET..]);
    u64::from_ne_bytes(bytes)
}

/// Has the stream end by a reset when it is closed.
fn reset(stream: &TcpStream) -> Result<()> {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &at_once)?)
}
