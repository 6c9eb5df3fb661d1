//! Connections between real stacks, through the gateway.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use tests::responder::Server;

use super::{datagrams::PORTS, in_turn};
use crate::gateway::{Candidate, Order, Protocol};
use crate::measure::Measure;
use crate::net::Net;
use crate::rig::Wiring;
use crate::session::{Contender, Session};

const ORDER: Order = Order {
    protocol: Protocol::Tcp,
    v6: false,
    rules: 1,
    ports: PORTS,
    flows: 200_000,
};

/// The port of the listener behind which requests are answered; the first one takes bytes.
const REQUESTS: u16 = Net::PORT + 1;

/// Bytes of a request, and of its response.
const REQUEST: usize = 64;

/// Clients that send requests, and servers that answer them.
const TALKERS: usize = 4;

/// How much is written at a time.
const BLOCK: usize = 128 * 1024;

pub(super) fn run(session: &mut Session) -> Result<()> {
    let stacks = |it: Candidate| it != Candidate::Ceiling;
    let mut frames = session.wired(&ORDER, Wiring::Frames, stacks)?;
    // Segments that have no checksum yet are nothing that XDP can send on; `auto` takes TC there.
    let virtuals = |it: Candidate| stacks(it) && it != Candidate::Xdp;
    let mut packets = session.wired(&ORDER, Wiring::SuperPackets, virtuals)?;
    let servers = |contenders: &[Contender]| -> Result<Vec<Servers>> {
        contenders.iter().map(Servers::start).collect()
    };
    let (frame_servers, packet_servers) = (servers(&frames)?, servers(&packets)?);
    for round in 0..session.rounds {
        eprintln!("  connections, round {} of {}", round + 1, session.rounds);
        for connections in [1, 16] {
            let case = if connections == 1 {
                "1 flow"
            } else {
                "16 flows"
            };
            bulk(
                session,
                &mut frames,
                round,
                (Measure::WireTcp, case, connections),
            );
        }
        bulk(
            session,
            &mut packets,
            round,
            (Measure::BulkTcp, "1 flow", 1),
        );
        for contender in in_turn(&mut frames, round) {
            let rate = requests(contender, session.time() * 2);
            session.record(Measure::Requests, "64 bytes", contender.candidate, rate);
        }
    }
    drop((frame_servers, packet_servers));
    Ok(())
}

fn bulk(
    session: &mut Session,
    contenders: &mut [Contender],
    round: usize,
    (measure, case, connections): (Measure, &str, usize),
) {
    for contender in in_turn(contenders, round) {
        let rate = transfer(contender, connections, session.time() * 2);
        session.record(measure, case, contender.candidate, rate);
    }
}

/// What listens in the sink.
struct Servers {
    _bytes: Server,
    requests: Arc<TcpListener>,
}

impl Servers {
    fn start(contender: &Contender) -> Result<Self> {
        let sink = &contender.rig.hosts.sink;
        let bytes = Server::start(sink, &format!("0.0.0.0:{}", Net::PORT), swallow)?;
        let requests = sink.run(|| TcpListener::bind(("0.0.0.0", REQUESTS)))??;
        let requests = Arc::new(requests);
        for _ in 0..TALKERS {
            let listener = Arc::clone(&requests);
            std::thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    // A client that goes away is not the server's trouble.
                    let _ = answer(stream);
                }
            });
        }
        Ok(Self {
            _bytes: bytes,
            requests,
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        // Wakes the accept() of the threads.
        let descriptor = self.requests.as_raw_fd();
        let _ = nix::sys::socket::shutdown(descriptor, nix::sys::socket::Shutdown::Both);
    }
}

/// Reads whatever comes, and says at the end of every second block how much that is.
fn swallow(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; REQUEST];
    stream.read_exact(&mut request)?;
    stream.write_all(&request)?;
    // The client closes first, and by a reset: a port that waits for old packets could not be used again.
    let _ = stream.read(&mut request);
    Ok(())
}

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a client connects to.
fn target(contender: &Contender, port: u16) -> SocketAddr {
    let pair = if contender.candidate.translates() {
        Net::LISTENER
    } else {
        Net::BACKEND
    };
    SocketAddr::new(Net::pick(false, pair), port)
}

/// Gigabits of payload a second.
fn transfer(contender: &mut Contender, connections: usize, time: Duration) -> Result<f64> {
    let target = target(contender, Net::PORT);
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
        let (started, before) = (Instant::now(), look());
        std::thread::sleep(time);
        let bytes = look() - before;
        let seconds = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            let sent = sender.join();
            sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .context("sending")?;
        }
        anyhow::ensure!(bytes > 0, "nothing was acknowledged");
        Ok(bytes as f64 * 8.0 / seconds / 1e9)
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

/// Requests answered a second.
fn requests(contender: &mut Contender, time: Duration) -> Result<f64> {
    let target = target(contender, REQUESTS);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let talk = || -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut request = [7; REQUEST];
            stream.write_all(&request)?;
            stream.read_exact(&mut request)?;
            reset(&stream)?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let generator = &contender.rig.hosts.generator;
    std::thread::scope(|scope| {
        let talkers: Vec<_> = (0..TALKERS)
            .map(|_| scope.spawn(|| generator.run(talk)?))
            .collect();
        std::thread::sleep(time / 4);
        let (started, before) = (Instant::now(), done.load(Ordering::Relaxed));
        std::thread::sleep(time);
        let count = done.load(Ordering::Relaxed) - before;
        let seconds = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        for talker in talkers {
            let talked = talker.join();
            talked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(count as f64 / seconds)
    })
}
