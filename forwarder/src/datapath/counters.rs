//! Counters, summed over the CPUs.

use forwarder_common::{
    reason::Reason,
    stats::{HOOK_TC, HOOK_XDP, RuleTraffic, Traffic},
};

use super::{Datapath, View};

/// What one rule has forwarded since its slot was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCount {
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Packets of both directions on the fast path.
    pub xdp_packets: u64,
    /// Packets of both directions on the slow path.
    pub tc_packets: u64,
    /// Flows ever opened.
    pub opened: u64,
    /// All traffic, by hook ([`HOOK_XDP`], [`HOOK_TC`]) and direction (original, reply).
    pub by_hook: [[Traffic; 2]; 2],
}

impl View {
    /// Packets not sent on, by reason, in the order of [`Reason::ALL`].
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        let mut counts = Vec::new();
        for reason in Reason::ALL {
            let per_cpu = self.reasons.get(&(*reason as u32), 0)?;
            counts.push((*reason, per_cpu.iter().sum()));
        }
        Ok(counts)
    }

    /// The counters of the rule with this slot.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn rule_count(&self, slot: u32) -> anyhow::Result<RuleCount> {
        let mut count = RuleCount {
            opened: self.rule_opened.get(&slot, 0)?.iter().sum(),
            ..RuleCount::default()
        };
        for traffic in self.rule_traffic.get(&slot, 0)?.iter() {
            add(&mut count, traffic);
        }
        Ok(count)
    }
}

impl Datapath {
    /// As [`View::reasons`].
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn reasons(&self) -> anyhow::Result<Vec<(Reason, u64)>> {
        self.view.now().reasons()
    }

    /// The counters of the rule `name`; all zero if it has no slot.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn rule_count(&self, name: &str) -> anyhow::Result<RuleCount> {
        let Some(slot) = self.names.get(name) else {
            return Ok(RuleCount::default());
        };
        self.view.now().rule_count(*slot)
    }
}

fn add(count: &mut RuleCount, traffic: &RuleTraffic) {
    let sums = count.by_hook.iter_mut().flatten();
    for (sum, one) in sums.zip(traffic.by_hook.iter().flatten()) {
        sum.packets += one.packets;
        sum.bytes += one.bytes;
    }
    for [original, reply] in traffic.by_hook {
        count.original.packets += original.packets;
        count.original.bytes += original.bytes;
        count.reply.packets += reply.packets;
        count.reply.bytes += reply.bytes;
    }
    let packets = |hook: usize| {
        traffic.by_hook[hook]
            .iter()
            .map(|one| one.packets)
            .sum::<u64>()
    };
    count.xdp_packets += packets(HOOK_XDP);
    count.tc_packets += packets(HOOK_TC);
}
