//! A gateway on which packets are weighed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use forwarder_common::reason::Reason;
use tests::machine::Outcome;
use tests::packet::Packet;

use super::super::bench::{Bench, Hook, SMALL, Setup};
use super::super::counted::Counted;
use super::super::family::Family;
use super::super::loaded::Loaded;
use super::super::refused::changed;
use super::super::topology::Device;
use super::profile;
use super::twin::Weighed;

/// The gateway, and what was found out on it.
pub struct Scale {
    /// The gateway.
    pub bench: Bench,
    /// Figures by name.
    pub found: BTreeMap<String, u32>,
}

/// How a packet ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is sent on, or goes on translated.
    Forwarded,
    /// For this reason it is not.
    Refused(Reason),
}

/// Jiffies within which what the flow cache has noted serves in any case.
const FRESH: u64 = 128;
/// How often it is tried to have two packets within that time.
const ATTEMPTS: u32 = 10;

impl Scale {
    /// One where `rules` are in force.
    pub fn new(hook: Hook, family: Family, rules: &str) -> Self {
        let mut scale = Self {
            bench: Bench::on(Loaded::new(SMALL), (hook, family), &Setup::new(rules)),
            found: BTreeMap::new(),
        };
        scale.turn(hook);
        scale
    }

    /// Weighs packets on `hook` from now on. Its programs are loaded when the first packet comes: one that is nobody's.
    pub fn turn(&mut self, hook: Hook) {
        self.bench.hook = hook;
        self.bench.run(Device::Wan, &[0; 60]);
    }

    /// Weighs a packet, which must come to this end.
    pub fn weigh(&mut self, name: &str, from: Device, packet: &Packet, end: End) -> Result<()> {
        let frame = self.bench.family.packet(packet).to_bytes();
        let weighed = self.weigh_last(from, &frame, end, 1);
        self.note(name, &weighed.with_context(|| name.to_owned())?.outcome)
    }

    /// Weighs the last of so many packets, which must all come to this end.
    fn weigh_last(&mut self, from: Device, frame: &[u8], end: End, times: u32) -> Result<Weighed> {
        let before = self.bench.counted();
        let weighed = self.bench.weigh(from, frame, times)?;
        let after = self.bench.counted();
        ended(&before, &after, end, times)?;
        Ok(weighed)
    }

    fn note(&mut self, name: &str, outcome: &Outcome) -> Result<()> {
        profile::show(name, outcome);
        let instructions = u32::try_from(outcome.trace.len())?;
        let figures = [("instructions", instructions), ("calls", outcome.calls)];
        for (what, number) in figures {
            let twice = self.found.insert(format!("{name}.{what}"), number);
            ensure!(twice.is_none(), "{name} is weighed twice");
        }
        Ok(())
    }

    /// Weighs a packet of a flow by the short way, if there is one on this hook, and by the long way.
    pub fn weigh_known(&mut self, name: &str, from: Device, packet: &Packet) -> Result<()> {
        if self.bench.hook == Hook::Xdp {
            self.weigh_cached(&format!("{name}_cached"), from, packet)?;
        }
        self.bench.datapath.forget_cached()?;
        self.weigh(&format!("{name}_established"), from, packet, End::Forwarded)
    }

    /// Weighs a packet right after another one like it: on a machine that was busy meanwhile once more.
    fn weigh_cached(&mut self, name: &str, from: Device, packet: &Packet) -> Result<()> {
        let frame = self.bench.family.packet(packet).to_bytes();
        for _ in 0..ATTEMPTS {
            // What was noted earlier would serve the first packet and perhaps not the second.
            self.bench.datapath.forget_cached()?;
            let weighed = self.weigh_last(from, &frame, End::Forwarded, 2);
            let weighed = weighed.with_context(|| name.to_owned())?;
            if weighed.took < FRESH {
                return self.note(name, &weighed.outcome);
            }
        }
        anyhow::bail!("{name}: this machine is too slow")
    }
}

/// Fails unless what was counted says so.
fn ended(before: &Counted, after: &Counted, end: End, times: u32) -> Result<()> {
    let reasons = changed(before, after);
    let forwarded: u64 = after.packets.iter().sum::<u64>() - before.packets.iter().sum::<u64>();
    let expected = match end {
        End::Forwarded => (Vec::new(), u64::from(times)),
        End::Refused(reason) => (vec![reason.name(); times as usize], 0),
    };
    ensure!(
        (&reasons, forwarded) == (&expected.0, expected.1),
        "{reasons:?} and not {end:?}"
    );
    Ok(())
}
