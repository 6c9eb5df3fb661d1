//! What rules that only watch have seen.

use std::{collections::BTreeMap, ops::ControlFlow};

use forwarder_common::{
    flow::SHADOW,
    reason::Reason,
    stats::{SHADOW_TRANSLATED, ShadowKey, Traffic},
};

use super::{Datapath, Flow, View};

/// What one rule would have done with packets that it only watched, since its slot was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowCount {
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Flows that it would have opened.
    pub opened: u64,
    /// Packets that it would have dropped.
    pub dropped: Vec<(Reason, u64)>,
}

impl Flow {
    /// Whether its packets are only watched.
    pub fn is_shadow(&self) -> bool {
        self.original_entry.flags & SHADOW != 0
    }
}

impl View {
    /// What rules have seen, by their slots; those that have seen nothing are not there.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn shadow_counts(&self) -> anyhow::Result<BTreeMap<u32, ShadowCount>> {
        let mut counts: BTreeMap<u32, ShadowCount> = BTreeMap::new();
        for entry in self.shadow.iter() {
            let (key, per_cpu) = entry?;
            let count = counts.entry(key.rule).or_default();
            let mut sum = [Traffic::default(); 2];
            let mut opened = 0;
            for one in per_cpu.iter() {
                opened += one.opened;
                for (sum, one) in sum.iter_mut().zip(one.by_direction) {
                    sum.packets += one.packets;
                    sum.bytes += one.bytes;
                }
            }
            let [original, reply] = sum;
            if key.outcome == SHADOW_TRANSLATED {
                (count.original, count.reply, count.opened) = (original, reply, opened);
            } else if let Some(reason) = Reason::ALL.get(key.outcome as usize) {
                count.dropped.push((*reason, original.packets));
            }
        }
        for count in counts.values_mut() {
            count.dropped.sort_by_key(|(reason, _)| *reason as u32);
        }
        Ok(counts)
    }

    /// The flows that are only watched.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn shadow_flows(&self) -> anyhow::Result<Vec<Flow>> {
        let mut flows = Vec::new();
        self.each_flow(
            |_| true,
            |flow| {
                if flow.is_shadow() {
                    flows.push(flow);
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok(flows)
    }
}

impl Datapath {
    /// Removes what was counted for an earlier rule with this slot.
    pub(super) fn forget_shadow(&mut self, slot: u32) -> anyhow::Result<()> {
        let keys: Vec<ShadowKey> = self.tables.shadow.keys().collect::<Result<_, _>>()?;
        for key in keys.into_iter().filter(|key| key.rule == slot) {
            self.tables.shadow.remove(&key)?;
        }
        Ok(())
    }
}
