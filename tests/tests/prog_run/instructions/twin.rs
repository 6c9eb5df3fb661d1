//! A packet through the kernel's programs and through the machine's, which must agree.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use tests::machine::map::{Kind, Map};
use tests::machine::packet::{Arrival, Packet};
use tests::machine::{Jiffies, Outcome, Route, World, run};

use super::super::bench::{Bench, Hook};
use super::super::topology::{Device, MTU};
use super::super::traffic::ROUTER;
use super::image;
use super::object::code;

/// Maps that the machine need not leave as the kernel does: answers to questions, of which the machine's are made up,
/// and times in nanoseconds.
const OWN: [&str; 2] = ["SCRATCH", "CLOCK"];
/// Hosts of the LAN with a known MAC address, by the last octet of theirs.
const LAN: [u8; 3] = [2, 3, 4];
/// A host on the Internet.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(195, 228, 245, 1);

/// What came of a packet in both.
pub struct Weighed {
    /// What it took.
    pub outcome: Outcome,
    /// Jiffies within which it, and those before it that were like it, have run.
    pub took: u64,
}

impl Bench {
    /// Runs the program over a frame that comes in by `from`, so many times in a row, here and there, and fails unless
    /// verdict, packet and all that the maps have afterwards are the same. The last time is weighed. The programs must
    /// be loaded.
    pub fn weigh(&mut self, from: Device, frame: &[u8], times: u32) -> Result<Weighed> {
        let cpu = pin()?;
        let code = code();
        // It also leaves its reading in a map.
        self.datapath.clock(1)?;
        let before = image::copy(&self.datapath, code, cpu)?;
        let [_, start] = clock(&before)?;
        let first = self.datapath.clock(1)?.now;
        let mut run = self.try_run(from, frame)?;
        for _ in 1..times {
            run = self.try_run(from, frame)?;
        }
        self.datapath.clock(1)?;
        let after = image::copy(&self.datapath, code, cpu)?;
        let [last, end] = clock(&after)?;
        let mut world = World {
            cpu: u32::try_from(cpu)?,
            routes: self.ways(),
            ..World::default()
        };
        let mut told = None;
        for (jiffies, nanoseconds) in instants([first, last], [start, end]) {
            (world.jiffies, world.nanoseconds) = (jiffies, nanoseconds);
            let mut outcome = self.imitate(&mut world, &before, from, frame)?;
            for _ in 1..times {
                outcome = self.imitate(&mut world, &outcome.memory.maps, from, frame)?;
            }
            let took = last - first;
            match compare(&outcome, (run.verdict, &run.packet), &after) {
                Ok(()) => return Ok(Weighed { outcome, took }),
                Err(error) => told = told.or(Some(error.context(format!("{:?}", outcome.way)))),
            }
        }
        Err(told.context("time went backwards")?)
    }

    fn imitate(
        &self,
        world: &mut World,
        maps: &[Map],
        from: Device,
        frame: &[u8],
    ) -> Result<Outcome> {
        let device = self.index(from);
        let skb = |ingress| Arrival::Skb { ingress, device };
        let (program, arrival) = match self.hook {
            Hook::Xdp => ("forwarder_xdp", Arrival::Xdp(device)),
            Hook::Tc => ("forwarder_tc", skb(device)),
            Hook::Egress => ("forwarder_egress", skb(0)),
        };
        let packet = Packet::new(arrival, frame);
        run(&code().programs, world, maps.to_vec(), program, packet)
    }

    /// What the kernel's tables say, as the topology has it.
    fn ways(&self) -> BTreeMap<IpAddr, Route> {
        let way = |device: Device, host| Route {
            device: self.index(device),
            source: device.mac(),
            destination: device.neighbour(host),
            mtu: MTU as u16,
        };
        let lan = LAN.map(|host| (Ipv4Addr::new(10, 0, 0, host), way(Device::Lan, host)));
        let outside = [(OUTSIDE, way(Device::Wan, ROUTER))];
        let all = lan.into_iter().chain(outside);
        all.map(|(address, way)| (self.family.address(address), way))
            .collect()
    }
}

/// Stays on the CPU that this thread is on, whose part of the maps then counts.
fn pin() -> Result<usize> {
    let cpu = sched_getcpu()?;
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(cpu)
}

/// Readings of the clock until a packet has run, at most.
const READINGS: u32 = 8;

/// When the kernel's program may have run, between two readings of both clocks: at each jiffy, with or without others
/// having begun meanwhile; of the other clock only seconds count, of which one may have begun.
fn instants([first, last]: [u64; 2], [start, end]: [u64; 2]) -> Vec<(Jiffies, u64)> {
    const SECOND: u64 = 1_000_000_000;
    let steady = (first..=last).map(|now| Jiffies { now, tick: None });
    let ticking = (first..last).flat_map(|now| {
        let ticks =
            (1..READINGS).flat_map(move |after| (1..=last - now).map(move |by| (after, by)));
        ticks.map(move |tick| Jiffies {
            now,
            tick: Some(tick),
        })
    });
    let seconds = if start / SECOND == end / SECOND { 1 } else { 2 };
    let jiffies = steady.chain(ticking);
    let both = jiffies.flat_map(|jiffies| {
        [start, end]
            .map(|time| (jiffies, time))
            .into_iter()
            .take(seconds)
    });
    both.collect()
}

/// What the clock program has read last: jiffies and nanoseconds.
fn clock(maps: &[Map]) -> Result<[u64; 2]> {
    let clock = maps.iter().find(|map| map.name == "CLOCK");
    let bytes = clock.and_then(|map| map.bytes(0, 0, 16));
    let (words, _) = bytes.context("no clock")?.as_chunks();
    match words {
        [jiffies, nanoseconds] => Ok([jiffies, nanoseconds].map(|word| u64::from_ne_bytes(*word))),
        _ => bail!("no clock"),
    }
}

/// Fails unless the machine came to the same as the kernel.
fn compare(outcome: &Outcome, (verdict, packet): (u32, &[u8]), after: &[Map]) -> Result<()> {
    let found = outcome.verdict;
    ensure!(
        found == verdict,
        "verdict {found}, and in the kernel {verdict}"
    );
    let frame = outcome.memory.packet.frame();
    same("the packet", Some(frame), Some(packet))?;
    for (here, there) in outcome.memory.maps.iter().zip(after) {
        let is_data = !matches!(there.shape.kind, Kind::Programs | Kind::Other);
        if !is_data || OWN.contains(&here.name.as_str()) {
            continue;
        }
        if let Some((key, ours, theirs)) = here.difference(there) {
            same(&format!("{} at {key:02x?}", here.name), ours, theirs)?;
        }
    }
    Ok(())
}

/// Fails unless both are the same bytes, and tells the first ones that are not.
fn same(what: &str, ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Result<()> {
    let [here, there] = [ours, theirs].map(Option::unwrap_or_default);
    let at = here.iter().zip(there).take_while(|(a, b)| a == b).count();
    let part = |bytes: &[u8]| format!("{:02x?}", &bytes[at..bytes.len().min(at + 16)]);
    ensure!(
        ours == theirs,
        "{what}, from byte {at} on: {} of {} bytes, and in the kernel {} of {}",
        part(here),
        here.len(),
        part(there),
        there.len()
    );
    Ok(())
}
