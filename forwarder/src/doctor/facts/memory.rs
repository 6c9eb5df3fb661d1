//! What the tables will need, and what there is.

use procfs::Current as _;

use super::Gaps;
use crate::config::{Config, Limits};
use crate::datapath::{Needs, RuleSet, Sizes, memory};
use crate::doctor::finding::Group;

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Memory {
    /// For all tables of both families, as configured.
    pub needed: u64,
    /// For each flow that `limits.flows` allows.
    pub each_flow: u64,
    /// What the kernel could give without swapping, if it says.
    pub available: Option<u64>,
    /// All there is.
    pub total: u64,
}

pub(super) fn read(config: &Config, gaps: &mut Gaps) -> Memory {
    let needs = Needs::of(RuleSet::from(config)).unwrap_or(Needs::ALL);
    let needed = |limits: &Limits| memory::needed(Sizes::from(limits), needs);
    let Some(whole) = gaps.take(
        Group::Memory,
        "the size of the tables",
        needed(&config.limits),
    ) else {
        return Memory::default();
    };
    // Far enough apart that buckets, which double now and then, even out.
    let (few, many) = (1 << 20, 1 << 24);
    let of = |flows| {
        needed(&Limits {
            flows,
            ..config.limits
        })
        .unwrap_or_default()
    };
    let facts = procfs::Meminfo::current();
    let facts = gaps.take(Group::Memory, "free memory", facts);
    Memory {
        needed: whole,
        each_flow: of(many).saturating_sub(of(few)) / u64::from(many - few),
        available: facts.as_ref().and_then(|facts| facts.mem_available),
        total: facts.map_or(0, |facts| facts.mem_total),
    }
}
