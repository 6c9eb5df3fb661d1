//! What flows take of the machine's memory, by the kernel's own accounts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use tests::scenario::Forwarder;

use crate::gateway::{Candidate, Gateway, Order};
use crate::measure::Measure;
use crate::plan::Kind;
use crate::rig::Wiring;
use crate::session::{Contender, Session};

/// Bytes of a place in a hash table, of which conntrack has two for each flow: its own, and one by which NAT finds the
/// flows of a source. As many places as flows is what the kernel makes by itself (Linux 5.15, commit d532bcd0b269).
const PLACES: f64 = 16.0;

/// How many of a forwarder's maps the results name.
const NAMED: usize = 6;

/// Builds a rig for everybody and opens flows in it, and sees what that takes: tables that are made at the start count
/// as much as entries that are made later.
pub(super) fn fill(session: &mut Session, order: &Order, flows: u32) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for candidate in session.entrants() {
        let rig = session.rig(Wiring::Datagrams)?;
        let before = objects()?;
        let started = std::time::Instant::now();
        let Some(mut contender) = session.admit(candidate, order, rig)? else {
            continue;
        };
        let ready = started.elapsed().as_secs_f64() * 1000.0;
        let opened = contender.open(flows, Kind::Udp);
        if candidate.translates() {
            eprintln!("  {candidate}: {flows} flows");
            let taken = match &contender.gateway {
                // The tables are for more flows than are open.
                Gateway::Ours(forwarder) => maps(session, candidate, forwarder, order.flows),
                Gateway::Kernel => grown(&before, flows).map(|bytes| bytes + PLACES),
            };
            let case = format!("UDP over IPv4, at {}", super::flows(flows));
            session.record(Measure::Memory, &case, candidate, taken);
            let case = "ready with 1 rule";
            session.record(Measure::Setup, case, candidate, Ok(ready));
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

/// Objects in use and bytes of each, by slab cache.
fn objects() -> Result<BTreeMap<String, (u64, u64)>> {
    let text = std::fs::read_to_string("/proc/slabinfo").context("reading /proc/slabinfo")?;
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let mut number = || words.next()?.parse().ok();
        let (used, _, size) = (number()?, number()?, number()?);
        Some((name, (used, size)))
    };
    Ok(text.lines().filter_map(of).collect())
}

/// Bytes of the objects that there are for each flow more than there were: of whatever has not grown with the flows
/// there is less than half of one.
fn grown(before: &BTreeMap<String, (u64, u64)>, flows: u32) -> Result<f64> {
    let bytes = objects()?.into_iter().map(|(name, (used, size))| {
        let earlier = before.get(&name).map_or(0, |(used, _)| *used);
        let for_each = (used.saturating_sub(earlier) as f64 / f64::from(flows)).round();
        for_each * size as f64
    });
    Ok(bytes.sum())
}

/// Bytes of all maps that the daemon has open, for each flow that they are made for. Notes which are the largest.
fn maps(
    session: &mut Session,
    candidate: Candidate,
    forwarder: &Forwarder,
    flows: u32,
) -> Result<f64> {
    let mut maps = open_maps(forwarder)?;
    maps.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let total: u64 = maps.iter().map(|(_, bytes)| bytes).sum();
    let for_each = |bytes: u64| bytes as f64 / f64::from(flows);
    let largest: Vec<_> = maps
        .iter()
        .take(NAMED)
        .map(|(name, bytes)| format!("{name} {:.1}", for_each(*bytes)))
        .collect();
    session.results.notes.push(format!(
        "memory of {candidate}: {:.0} MB in {} maps for {flows} flows; B per flow: {}",
        total as f64 / 1e6,
        maps.len(),
        largest.join(", ")
    ));
    Ok(for_each(total))
}

/// Names and bytes, as the kernel accounts for them in /proc/PID/fdinfo.
fn open_maps(forwarder: &Forwarder) -> Result<Vec<(String, u64)>> {
    let status = forwarder.query("status")?;
    let process = status["pid"]
        .as_u64()
        .context("`status` names no process")?;
    let mut maps = BTreeMap::new();
    let directory = format!("/proc/{process}/fdinfo");
    for entry in std::fs::read_dir(&directory).with_context(|| format!("reading {directory}"))? {
        // One that has been closed in between was none of a map's.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        if let Some((id, bytes)) = field("map_id:").zip(field("memlock:")) {
            let info = MapInfo::from_id(u32::try_from(id)?)?;
            let name = info.name_as_str().unwrap_or("?").to_owned();
            maps.insert(id, (name, bytes));
        }
    }
    anyhow::ensure!(!maps.is_empty(), "the daemon has no map open");
    Ok(maps.into_values().collect())
}
