//! How long it takes to make a gateway ready and to change what it does.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use forwarder::config::Timeouts;
use forwarder::datapath::{Datapath, Pins, Sizes};

use tests::scenario::see_bpffs;

use super::rules;
use crate::gateway::{Candidate, Gateway, Order};
use crate::measure::Measure;
use crate::rig::Wiring;
use crate::session::{Contender, Session};

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Builds rigs for everybody who translates, and sees how long each takes to be ready.
pub(super) fn timed(session: &mut Session, order: &Order) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for candidate in session.entrants() {
        if !candidate.translates() {
            continue;
        }
        let rig = session.rig(Wiring::Datagrams)?;
        let started = Instant::now();
        let Some(contender) = session.admit(candidate, order, rig)? else {
            continue;
        };
        let case = format!("ready with {}", rules(order.rules));
        let time = milliseconds(started.elapsed());
        session.record(Measure::Setup, &case, candidate, Ok(time));
        contenders.push(contender);
    }
    Ok(contenders)
}

/// Takes away a tenth of the rules and brings it back.
pub(super) fn reload(session: &mut Session, contenders: &mut [Contender]) {
    for contender in contenders {
        let order = contender.order;
        let fewer = Order {
            rules: order.rules / 10 * 9,
            ..order
        };
        let candidate = contender.candidate;
        let namespace = &contender.rig.hosts.gateway;
        let load = |order| contender.gateway.reload(candidate, order, namespace);
        let time = load(&fewer).and_then(|_| load(&order));
        let case = format!("reload of {}", rules(order.rules));
        session.record(Measure::Setup, &case, candidate, time.map(milliseconds));
    }
}

/// A daemon that takes over what a killed one has left, and a sweep of it. The last thing that happens in a rig: what
/// is loaded here beside the daemon takes its place.
pub(super) fn take_over(session: &mut Session, contenders: &mut [Contender]) -> Result<()> {
    for contender in contenders {
        let candidate = contender.candidate;
        let open = super::flows(contender.opened);
        let Gateway::Ours(forwarder) = &mut contender.gateway else {
            continue;
        };
        let time = (|| {
            forwarder.kill()?;
            let started = Instant::now();
            forwarder.restart()?;
            Ok(milliseconds(started.elapsed()))
        })();
        let case = format!("start over {open}");
        session.record(Measure::Setup, &case, candidate, time);
        if candidate == Candidate::Xdp {
            let directory = forwarder.config();
            let directory = directory.parent().context("a file is in a directory")?;
            let namespace = &contender.rig.hosts.gateway;
            let times = namespace.run(|| sweep(&directory.join("bpf"), session.rounds));
            for time in times?? {
                let case = format!("sweep of {open}, none removed");
                session.record(Measure::Setup, &case, candidate, Ok(milliseconds(time)));
            }
        }
    }
    Ok(())
}

/// What the daemon does every ten seconds, over its own tables.
fn sweep(bpffs: &Path, rounds: usize) -> Result<Vec<Duration>> {
    see_bpffs(&CString::new(bpffs.as_os_str().as_bytes())?)?;
    // Sizes are those of the tables that are there.
    let sizes = Sizes {
        flows: 1024,
        half_open: 1024,
        rules: 65_536,
    };
    let mut datapath = Datapath::load(sizes, Some(Pins::here()?))?;
    let mut times = Vec::new();
    let timeouts = Timeouts {
        udp: Duration::from_secs(7200),
        ..Timeouts::default()
    };
    let hz = datapath.calibrate()?.hz;
    for _ in 0..rounds {
        let clock = datapath.clock(hz)?;
        let started = Instant::now();
        datapath.sweep(&clock, &timeouts)?;
        times.push(started.elapsed());
    }
    Ok(times)
}
