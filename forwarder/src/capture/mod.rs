//! `forwarder capture`: packets before and after translation, in a file that Wireshark reads.
//!
//! The daemon puts programs in place that copy what they translate; this reads the copies. When this process goes,
//! however it does, the daemon puts the usual programs back.

mod file;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use forwarder_common::capture::{AFTER, Sample};
use futures_util::future::select_all;
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::{CaptureQuery, client};
use crate::datapath::capture::{Buffer, Names, Samples};
use file::{Described, File};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The rule; every rule if there is none.
    pub rule: Option<String>,
    /// After how many translated packets to stop.
    pub count: u64,
    /// Bytes of each packet.
    pub length: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Packets that were translated, each of which is in the file twice.
    pub packets: u64,
    /// Copies that were lost because they came faster than they could be written.
    pub lost: u64,
    /// Whether the daemon went away meanwhile.
    pub abandoned: bool,
}

/// Captures until there are enough packets or a signal comes, and writes them to `out`. Calls `begun` when nothing that
/// comes from then on is missed.
///
/// # Errors
/// There is no daemon, it refuses, this process may not read the copies, or `out` cannot be written.
pub fn capture(
    socket: &Path,
    options: &Options,
    out: impl Write,
    begun: impl FnOnce(),
) -> anyhow::Result<Captured> {
    let query = CaptureQuery {
        rule: options.rule.clone(),
        length: options.length,
    };
    let (granted, stream) = client::hold(socket, query)?;
    let samples = Samples::open(&granted.directory)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        stream.set_nonblocking(true)?;
        let daemon = tokio::net::UnixStream::from_std(stream)?;
        let file = File::begin(out, options.length)?;
        follow(samples, daemon, file, options.count, begun).await
    })
}

async fn follow<W: Write>(
    samples: Samples,
    daemon: tokio::net::UnixStream,
    mut file: File<W>,
    most: u64,
    begun: impl FnOnce(),
) -> anyhow::Result<Captured> {
    let (buffers, names) = samples.split();
    let mut terms = Terms::new(names)?;
    let mut buffers = buffers
        .into_iter()
        .map(readable)
        .collect::<Result<Vec<_>, _>>()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut captured = Captured::default();
    begun();
    while captured.packets < most {
        let readable = buffers.iter_mut().map(|one| Box::pin(one.readable_mut()));
        tokio::select! {
            (ready, _, _) = select_all(readable) => ready?.clear_ready(),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = hangup.recv() => break,
            _ = daemon.readable() => {
                captured.abandoned = true;
                break;
            }
        }
        write(&mut buffers, &mut terms, &mut file, &mut captured, most)?;
    }
    // What was copied before the end was asked for belongs to it.
    write(&mut buffers, &mut terms, &mut file, &mut captured, most)?;
    file.end(captured.lost)?;
    Ok(captured)
}

/// To be waited for.
fn readable(buffer: Buffer) -> anyhow::Result<AsyncFd<Buffer>> {
    // SAFETY: the descriptor is the ring's, which the buffer owns for as long as it lives.
    let waiting = unsafe { AsyncFd::register_with_interest(buffer, Interest::READABLE) };
    waiting.map_err(|_| anyhow!("cannot wait for copies of packets"))
}

/// Writes what all CPUs have copied so far, in the order of time.
fn write<W: Write>(
    buffers: &mut [AsyncFd<Buffer>],
    terms: &mut Terms,
    file: &mut File<W>,
    captured: &mut Captured,
    most: u64,
) -> anyhow::Result<()> {
    let mut copies: Vec<(Sample, Vec<u8>)> = Vec::new();
    for buffer in buffers {
        let mut take = |sample, packet: &[u8]| copies.push((sample, packet.to_vec()));
        captured.lost += buffer.get_mut().drain(&mut take);
    }
    copies.sort_by_key(|(sample, _)| sample.time);
    for (sample, packet) in copies {
        if captured.packets == most {
            break;
        }
        let described = terms.describe(&sample);
        file.packet(&sample, &described, &packet)?;
        captured.packets += u64::from(sample.flags & AFTER != 0);
    }
    file.flush()
}

/// What the numbers in samples mean.
struct Terms {
    names: Names,
    rules: HashMap<u32, String>,
    devices: HashMap<u32, String>,
    /// From the programs' clock to the time of day.
    since_1970: Duration,
}

impl Terms {
    fn new(names: Names) -> anyhow::Result<Self> {
        let day = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
        let running = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        Ok(Self {
            names,
            rules: HashMap::new(),
            devices: HashMap::new(),
            since_1970: day.saturating_sub(running),
        })
    }

    fn describe(&mut self, sample: &Sample) -> Described {
        let rule = self.rules.entry(sample.rule).or_insert_with(|| {
            let name = self.names.get(sample.rule);
            name.unwrap_or_else(|| format!("number {}", sample.rule))
        });
        let device = self
            .devices
            .entry(sample.device)
            .or_insert_with(|| device(sample.device));
        Described {
            time: self.since_1970 + Duration::from_nanos(sample.time),
            rule: rule.clone(),
            device: device.clone(),
        }
    }
}

/// 0 is where no device is: this host's own stack.
fn device(index: u32) -> String {
    if index == 0 {
        return "host".to_owned();
    }
    match nix::net::if_::if_indextoname(index) {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => format!("device {index}"),
    }
}
