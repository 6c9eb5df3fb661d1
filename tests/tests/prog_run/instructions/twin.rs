//! A packet through the kernel's programs and through the machine's, which must agree.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use tests::machine::map::{Kind, Map};
use tests::machine::packet::{Arrival, Packet};
use tests::machine::{Outcome, Route, World, run};

use super::super::bench::{Bench, Hook};
use super::super::topology::{Device, MTU};
use super::super::traffic::ROUTER;
use super::image;
use super::object::{Code, code};

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
    /// The jiffy that it ran at.
    pub now: u64,
}

impl Bench {
    /// Runs the program over a frame that comes in by `from`, here and there, and fails unless verdict, packet and all
    /// that the maps have afterwards are the same. The programs must be loaded.
    pub fn weigh(&mut self, from: Device, frame: &[u8]) -> Result<Weighed> {
        let cpu = pin()?;
        // Also leaves its reading in a map.
        self.datapath.clock(1)?;
        let code = code();
        let before = image::copy(&self.datapath, &code.maps, cpu)?;
        let [jiffies, nanoseconds] = clock(&before)?;
        let run = self.try_run(from, frame)?;
        let end = self.datapath.clock(1)?.now;
        let after = image::copy(&self.datapath, &code.maps, cpu)?;
        let mut world = World {
            nanoseconds,
            cpu: u32::try_from(cpu)?,
            routes: self.ways(),
            ..World::default()
        };
        let mut told = None;
        // It ran at one of these.
        for now in jiffies..=end {
            world.jiffies = now;
            let outcome = self.imitate(code, &world, &before, from, frame)?;
            let agreed = compare(&outcome, (run.verdict, &run.packet), &after);
            match agreed {
                Ok(()) => return Ok(Weighed { outcome, now }),
                Err(error) => told = Some(error.context(format!("{:?}", outcome.way))),
            }
        }
        Err(told.context("time went backwards")?)
    }

    fn imitate(
        &self,
        code: &Code,
        world: &World,
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
        run(&code.programs, world, maps.to_vec(), program, packet)
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
    ensure!(
        frame == packet,
        "the packet\n{frame:02x?}, and in the kernel\n{packet:02x?}"
    );
    for (here, there) in outcome.memory.maps.iter().zip(after) {
        let is_data = !matches!(there.shape.kind, Kind::Programs | Kind::Other);
        if !is_data || OWN.contains(&here.name.as_str()) {
            continue;
        }
        if let Some((key, ours, theirs)) = here.difference(there) {
            let name = &here.name;
            bail!("{name} at {key:02x?}:\n{ours:02x?}, and in the kernel\n{theirs:02x?}");
        }
    }
    Ok(())
}
