//! The maps, typed.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray},
};
use forwarder_common::{
    address::V4,
    device::Device,
    flow::{FlowEntry, FlowKey},
    rule::{Backend, ClientKey, ListenerKey, MasqueradeKey, NAME_LENGTH, RuleEntry, Shape},
    settings::Settings,
    stats::RuleTraffic,
};

use super::{Sizes, batch::Batch, object::descriptor, object::take};

/// Slots by rule name.
pub(super) type Names = BTreeMap<String, u32>;

/// Every map that userspace reads or writes.
pub(super) struct Tables {
    pub(super) flows: HashMap<MapData, FlowKey<V4>, FlowEntry<V4>>,
    pub(super) half_open: HashMap<MapData, FlowKey<V4>, FlowEntry<V4>>,
    pub(super) flows_batch: Batch<FlowKey<V4>, FlowEntry<V4>>,
    pub(super) half_open_batch: Batch<FlowKey<V4>, FlowEntry<V4>>,
    pub(super) listeners: HashMap<MapData, ListenerKey<V4>, RuleEntry<V4>>,
    pub(super) shapes: Array<MapData, Shape>,
    pub(super) backends: Array<MapData, Backend<V4>>,
    pub(super) clients: LpmTrie<MapData, ClientKey<V4>, u32>,
    pub(super) masquerade: LpmTrie<MapData, MasqueradeKey<V4>, [u8; 4]>,
    pub(super) devices: HashMap<MapData, u32, Device>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) rule_names: HashMap<MapData, u32, [u8; NAME_LENGTH]>,
    pub(super) rule_traffic: PerCpuArray<MapData, RuleTraffic>,
    pub(super) rule_opened: PerCpuArray<MapData, u64>,
    pub(super) reasons: PerCpuArray<MapData, u64>,
    pub(super) clock: Array<MapData, [u64; 2]>,
    /// Rules that the statistics tables hold. `Array::len` tells the object's size, not a pinned map's.
    rules: u32,
}

impl Tables {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let (_, rules) = descriptor(ebpf, "RULE_OPENED")?;
        Ok(Self {
            rules,
            flows_batch: batch(ebpf, "FLOWS")?,
            half_open_batch: batch(ebpf, "HALF_OPEN")?,
            flows: take(ebpf, "FLOWS")?,
            half_open: take(ebpf, "HALF_OPEN")?,
            listeners: take(ebpf, "LISTENERS")?,
            shapes: take(ebpf, "SHAPES")?,
            backends: take(ebpf, "BACKENDS")?,
            clients: take(ebpf, "CLIENTS")?,
            masquerade: take(ebpf, "MASQUERADE")?,
            devices: take(ebpf, "DEVICES")?,
            settings: take(ebpf, "SETTINGS")?,
            rule_names: take(ebpf, "RULE_NAMES")?,
            rule_traffic: take(ebpf, "RULE_TRAFFIC")?,
            rule_opened: take(ebpf, "RULE_OPENED")?,
            reasons: take(ebpf, "REASONS")?,
            clock: take(ebpf, "CLOCK")?,
        })
    }

    /// The sizes the tables have: adopted tables keep theirs, whatever was asked for.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            flows: self.flows_batch.capacity() / 2,
            half_open: self.half_open_batch.capacity() / 2,
            rules: self.rules,
        }
    }

    /// The slots that an earlier daemon gave out.
    pub(super) fn names(&self) -> anyhow::Result<Names> {
        let mut names = Names::new();
        for entry in self.rule_names.iter() {
            let (slot, bytes) = entry?;
            let end = bytes
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(NAME_LENGTH);
            names.insert(String::from_utf8_lossy(&bytes[..end]).into_owned(), slot);
        }
        Ok(names)
    }
}

fn batch<K: aya::Pod, V: aya::Pod>(ebpf: &Ebpf, name: &str) -> anyhow::Result<Batch<K, V>> {
    let (descriptor, capacity): (OwnedFd, u32) = descriptor(ebpf, name)?;
    Ok(Batch::new(descriptor, capacity))
}
