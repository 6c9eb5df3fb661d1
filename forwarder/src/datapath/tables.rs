//! The maps, typed.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuHashMap},
};
use forwarder_common::{
    address::{V4, V6},
    cache::{CacheState, Set},
    change::{Drained, OnChange},
    concern::ALL_WORDS,
    device::{Device, VlanKey},
    flow::{FlowEntry, FlowKey},
    layout::Layouts,
    mapping::{Mapping, MappingKey},
    rule::{
        Backend, ClientKey, ListenerKey, MasqueradeKey, NAME_LENGTH, OutboundKey, OwnAddress,
        RuleEntry, Shape,
    },
    settings::Settings,
    stats::{RuleTraffic, ShadowKey, ShadowTraffic},
};

use super::queries::Queries;
use super::{
    Sizes,
    batch::Batch,
    family::Family,
    half_open::HalfOpenFlows,
    mapped::Mapped,
    object::descriptor,
    object::take,
    room::{self, Needs},
    view::batch,
};

/// Slots by rule name.
pub(super) type Names = BTreeMap<String, u32>;

/// Every map that userspace reads or writes.
pub(super) struct Tables {
    pub(super) v4: FamilyTables<V4>,
    pub(super) v6: FamilyTables<V6>,
    pub(super) half_open: HalfOpenFlows,
    pub(super) shapes: Array<MapData, Shape>,
    pub(super) devices: HashMap<MapData, u32, Device>,
    pub(super) queries: Queries,
    pub(super) vlans: HashMap<MapData, VlanKey, u32>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) cache_state: Array<MapData, CacheState>,
    pub(super) rule_names: HashMap<MapData, u32, [u8; NAME_LENGTH]>,
    pub(super) rule_on_change: HashMap<MapData, u32, OnChange>,
    pub(super) rule_traffic: PerCpuArray<MapData, RuleTraffic>,
    pub(super) rule_opened: PerCpuArray<MapData, u64>,
    pub(super) shadow: PerCpuHashMap<MapData, ShadowKey, ShadowTraffic>,
    pub(super) layouts: Array<MapData, Layouts>,
    pub(super) clock: Array<MapData, [u64; 2]>,
    /// Rules that the statistics tables hold. `Array::len` tells the object's size, not a pinned map's.
    rules: u32,
}

/// The maps of one address family.
pub(super) struct FamilyTables<A: Family> {
    pub(super) flows: FlowTable<A>,
    pub(super) listeners: HashMap<MapData, ListenerKey<A>, RuleEntry<A>>,
    pub(super) backends: Array<MapData, Backend<A>>,
    pub(super) clients: LpmTrie<MapData, ClientKey<A>, u32>,
    pub(super) outbound: LpmTrie<MapData, OutboundKey<A>, u32>,
    pub(super) masquerade: LpmTrie<MapData, MasqueradeKey<A>, OwnAddress<A>>,
    pub(super) own: HashMap<MapData, A, u32>,
    pub(super) mappings: Batch<MappingKey<A>, Mapping<A>>,
    pub(super) cache: Batch<u32, Set<A>>,
    /// The same, to empty places.
    pub(super) sets: Mapped<Set<A>>,
    pub(super) mapping: HashMap<MapData, MappingKey<A>, Mapping<A>>,
    pub(super) draining: HashMap<MapData, FlowKey<A>, Drained>,
    /// One record.
    pub(super) concerns: Array<MapData, [u64; ALL_WORDS as usize]>,
}

/// A flow table, for one entry and for all of them.
pub(super) struct FlowTable<A: Family> {
    pub(super) one: HashMap<MapData, FlowKey<A>, FlowEntry<A>>,
    pub(super) all: Batch<FlowKey<A>, FlowEntry<A>>,
}

impl Tables {
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let (_, rules) = descriptor(ebpf, "RULE_OPENED")?;
        Ok(Self {
            rules,
            v4: FamilyTables::take(ebpf)?,
            v6: FamilyTables::take(ebpf)?,
            half_open: HalfOpenFlows::open(descriptor(ebpf, "HALF_OPEN")?.0)?,
            shapes: take(ebpf, "SHAPES")?,
            devices: take(ebpf, "DEVICES")?,
            vlans: take(ebpf, "VLANS")?,
            queries: Queries {
                settings: take(ebpf, "QUERIES")?,
                proxies: take(ebpf, "PROXIES")?,
            },
            settings: take(ebpf, ".bss.settings")?,
            cache_state: take(ebpf, ".bss.cache_state")?,
            rule_names: take(ebpf, "RULE_NAMES")?,
            rule_on_change: take(ebpf, "RULE_ON_CHANGE")?,
            rule_traffic: take(ebpf, "RULE_TRAFFIC")?,
            rule_opened: take(ebpf, "RULE_OPENED")?,
            shadow: take(ebpf, "SHADOW")?,
            layouts: take(ebpf, "LAYOUTS")?,
            clock: take(ebpf, "CLOCK")?,
        })
    }

    /// The sizes the tables have: adopted tables keep theirs, whatever was asked for.
    pub(super) fn sizes(&self, has: Needs, wanted: Sizes) -> Sizes {
        Sizes {
            flows: room::flows(&self.v4, &self.v6, has, wanted.flows),
            half_open: self.half_open.read::<V4>().limit as u32,
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

impl<A: Family> FamilyTables<A> {
    fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let name = |table: &str| format!("{table}_{}", A::SUFFIX);
        Ok(Self {
            flows: FlowTable::take(ebpf, &name("FLOWS"))?,
            listeners: take(ebpf, &name("LISTENERS"))?,
            backends: take(ebpf, &name("BACKENDS"))?,
            clients: take(ebpf, &name("CLIENTS"))?,
            outbound: take(ebpf, &name("OUTBOUND"))?,
            masquerade: take(ebpf, &name("MASQUERADE"))?,
            own: take(ebpf, &name("OWN"))?,
            mappings: batch(ebpf, &name("MAPPINGS"))?,
            sets: {
                let (map, sets) = descriptor(ebpf, &name("CACHE"))?;
                Mapped::open(map, sets)?
            },
            cache: batch(ebpf, &name("CACHE"))?,
            mapping: take(ebpf, &name("MAPPINGS"))?,
            draining: take(ebpf, &name("DRAINING"))?,
            concerns: take(ebpf, &format!(".bss.{}", name("CONCERNS").to_lowercase()))?,
        })
    }
}

impl<A: Family> FlowTable<A> {
    fn take(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<Self> {
        Ok(Self {
            all: batch(ebpf, name)?,
            one: take(ebpf, name)?,
        })
    }
}
