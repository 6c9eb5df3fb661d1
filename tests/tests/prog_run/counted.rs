//! The datapath's counters.

use std::collections::BTreeMap;

use super::bench::Bench;

/// What the datapath has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Reasons that are not zero.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Packets forwarded by any rule on XDP and on TC.
    pub packets: [u64; 2],
    /// Bytes forwarded by any rule.
    pub bytes: u64,
}

impl Bench {
    /// Everything counted so far.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted::default();
        for (reason, count) in self.datapath.reasons().expect("reading the reasons") {
            if count > 0 {
                counted.reasons.insert(reason.name(), count);
            }
        }
        for name in self.datapath.rule_names().values() {
            let rule = self.datapath.rule_count(name).expect("reading the rules");
            counted.packets[0] += rule.xdp_packets;
            counted.packets[1] += rule.tc_packets;
            counted.bytes += rule.original.bytes + rule.reply.bytes;
        }
        counted
    }
}
