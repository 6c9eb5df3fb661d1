//! What flows take of the machine's memory.

use anyhow::{Context as _, Result};

use crate::gateway::Order;
use crate::measure::Measure;
use crate::plan::Kind;
use crate::rig::Wiring;
use crate::session::{Contender, Session};

/// Fields of /proc/meminfo that tables and entries are counted in: slabs that cannot be given back, tables, and what
/// exists for each CPU.
const FIELDS: [&str; 3] = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];

/// Builds a rig for everybody and opens flows in it, and sees what that takes: tables that are made at the start count
/// as much as entries that are made later.
pub(super) fn fill(session: &mut Session, order: &Order, flows: u32) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for candidate in session.candidates.clone() {
        if session.is_absent(candidate) {
            continue;
        }
        let rig = session.rig(Wiring::Datagrams)?;
        let before = used()?;
        let started = std::time::Instant::now();
        let Some(mut contender) = session.admit(candidate, order, rig)? else {
            continue;
        };
        let ready = started.elapsed();
        let opened = contender.open(flows, Kind::Udp);
        if candidate.translates() {
            eprintln!("  {candidate}: {flows} flows");
            let taken = used()?.saturating_sub(before) as f64;
            // The forwarder's tables are for more flows than are open.
            let holds = if candidate.is_ours() {
                order.flows
            } else {
                flows
            };
            let case = format!("UDP over IPv4, at {}", super::flows(flows));
            session.record(
                Measure::Memory,
                &case,
                candidate,
                Ok(taken / f64::from(holds)),
            );
            let case = "ready with 1 rule".to_owned();
            let time = ready.as_secs_f64() * 1000.0;
            session.record(Measure::Setup, &case, candidate, Ok(time));
            let case = format!("opening {}", super::flows(flows));
            let time = opened.map(|it| f64::from(flows) / it.rate() * 1000.0);
            session.record(Measure::Setup, &case, candidate, time);
        } else {
            opened?;
        }
        contenders.push(contender);
    }
    Ok(contenders)
}

/// Bytes of the kernel's that are not caches.
fn used() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let of = |line: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        FIELDS.contains(&words.next()?).then_some(())?;
        words.next()?.parse::<u64>().ok()
    };
    Ok(text.lines().filter_map(of).sum::<u64>() * 1024)
}
