//! The eBPF object, loaded: programs ready to attach, maps ready to use.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData},
};
use forwarder_common::{
    address::{V4, V6},
    cache::WAYS,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::{
    capture::SAMPLES,
    events::{EventSwitch, Events},
    family::Family as _,
    fill::{Capacities, Fill},
    globals::{Globals, SECTIONS},
    pins::Pins,
    programs::Programs,
    room::Needs,
    tables::{Names, Tables},
    view::{View, Views},
    words::Words,
};
use crate::{config::Limits, fault};

/// The object that build.rs compiled from `forwarder-ebpf`.
pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forwarder-ebpf"));

/// How large the tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Flows; each takes two entries.
    pub flows: u32,
    /// How many of them may be TCP whose handshake is not complete.
    pub half_open: u32,
    /// Rules, and backends over all rules.
    pub rules: u32,
}

impl From<&Limits> for Sizes {
    fn from(limits: &Limits) -> Self {
        Self {
            flows: limits.flows,
            // A flood of SYNs leaves half of the table to others in any case.
            half_open: limits.half_open.min((limits.flows / 2).max(1)),
            rules: limits.rules,
        }
    }
}

impl Sizes {
    /// The tables that are made as large as this says, of IPv4 and of IPv6, and how many entries they get on a machine
    /// with so many CPUs.
    pub fn tables(self, cpus: u32) -> [([&'static str; 2], u32); 5] {
        let twice = |count: u32| count.saturating_mul(2);
        let flows = twice(self.flows);
        [
            (["CACHE_V4", "CACHE_V6"], sets(self.flows, cpus)),
            (["FLOWS_V4", "FLOWS_V6"], flows),
            (["MAPPINGS_V4", "MAPPINGS_V6"], flows),
            (["BACKENDS_V4", "BACKENDS_V6"], twice(self.rules)),
            (["LISTENERS_V4", "LISTENERS_V6"], listeners(self.rules)),
        ]
    }
}

/// The loaded datapath.
pub struct Datapath {
    pub(super) programs: Programs,
    pub(super) tables: Tables,
    pub(super) names: Names,
    pub(super) sizes: Sizes,
    pub(super) pins: Option<Pins>,
    pub(super) words: Option<Words>,
    pub(super) events: Option<(Events, EventSwitch)>,
    pub(super) view: Views,
    /// What there is room for.
    pub(super) has: Needs,
    pub(super) is_renewed: bool,
    pub(super) capacities: Capacities,
    /// How full the tables of rules are, since [`Datapath::set_rules`] was last called.
    pub(super) rule_fill: Vec<Fill>,
    /// Slots of the rules that give flows a source address towards their backends.
    pub(super) pooled: BTreeSet<u32>,
    /// Devices that are configured no more and still serve flows.
    pub(super) leaving: BTreeSet<u32>,
}

/// Maps that outlive the daemon: all but scratch space.
const PINNED: &[&str] = &[
    "LAYOUTS",
    "QUERIES",
    "PROXIES",
    "HALF_OPEN",
    "SHAPES",
    "DEVICES",
    "VLANS",
    "RULE_NAMES",
    "RULE_ON_CHANGE",
    "RULE_TRAFFIC",
    "RULE_OPENED",
    "SHADOW",
    "REASONS",
    "LAST",
    "EVENTS",
    "EVENTS_LOST",
    "XDP_STAGES",
    "TC_STAGES",
    "EGRESS_STAGES",
    SAMPLES,
    "AYA_LOGS",
];

/// The same, of which each family has one.
const PINNED_EACH: &[&str] = &[
    "CACHE",
    "FLOWS",
    "LISTENERS",
    "BACKENDS",
    "CLIENTS",
    "OUTBOUND",
    "MASQUERADE",
    "OWN",
    "MAPPINGS",
    "DATAGRAMS",
    "DRAINING",
    "HELD",
];

/// Every map that is pinned.
pub(super) fn pinned() -> impl Iterator<Item = String> {
    let each = |name: &&str| [V4::SUFFIX, V6::SUFFIX].map(|suffix| format!("{name}_{suffix}"));
    PINNED
        .iter()
        .chain(&SECTIONS)
        .map(|name| (*name).to_owned())
        .chain(PINNED_EACH.iter().flat_map(each))
}

impl Datapath {
    /// Creates the maps, or adopts those under `pins`, and loads every program.
    ///
    /// # Errors
    /// The kernel refuses a map or a program; the message has the verifier's last words.
    pub fn load(sizes: Sizes, pins: Option<Pins>) -> anyhow::Result<Self> {
        Self::open(sizes, Needs::ALL, pins)
    }

    /// The same with tables as large as `needs` say only; rules that need more get it.
    ///
    /// # Errors
    /// As [`Datapath::load`].
    pub fn open(sizes: Sizes, needs: Needs, pins: Option<Pins>) -> anyhow::Result<Self> {
        let cpus = cpus()?;
        // Before 5.11 maps count against this limit (commit 97306be45fbe); afterwards it is ignored.
        let _unlimited = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("RULE_TRAFFIC", sizes.rules)
            .map_max_entries("RULE_OPENED", sizes.rules);
        for (table, entries) in sizes.entries(needs, cpus) {
            loader.map_max_entries(table, entries);
        }
        let globals = Globals::read(pins.as_ref())?;
        globals.keep(&mut loader);
        let pinned: Vec<String> = pinned().collect();
        if let Some(pins) = &pins {
            for name in &pinned {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let mut ebpf = loader
            .load(OBJECT)
            .context("cannot create the maps or load the programs")?;
        let view = Views::new(View::of(&ebpf)?);
        let capacities = Capacities::of(&ebpf)?;
        let switch = EventSwitch::of(&ebpf)?;
        let mut tables = Tables::take(&mut ebpf)?;
        tables.divide_cache(cpus)?;
        // Programs of an earlier daemon may have raised the epoch while it was written.
        tables.forget_cached()?;
        tables.v4.concern_flows()?;
        tables.v6.concern_flows()?;
        tables.half_open.limit::<V4>(sizes.half_open.into());
        tables.half_open.limit::<V6>(sizes.half_open.into());
        tables.layouts.set(0, fault::layouts(), 0)?;
        let has = tables.v4.has(cpus, sizes).and(tables.v6.has(cpus, sizes));
        let sizes = tables.sizes(has, sizes);
        let names = tables.names()?;
        let words = Some(Words::listen(&mut ebpf)?);
        let events = Some((Events::of(&ebpf)?, switch));
        Ok(Self {
            programs: Programs::load(ebpf)?,
            tables,
            names,
            sizes,
            pins,
            words,
            events,
            view,
            has,
            is_renewed: false,
            capacities,
            rule_fill: Vec::new(),
            pooled: BTreeSet::new(),
            leaving: BTreeSet::new(),
        })
    }

    /// What can be read while others sweep or change rules.
    pub fn view(&self) -> Views {
        self.view.clone()
    }

    /// How large the tables are: what was asked for, or what was adopted.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }
}

/// Sets of places in the flow caches, all CPUs together: a place for every second flow, since not all are in use at
/// once. The same power of two for each CPU.
fn sets(flows: u32, cpus: u32) -> u32 {
    /// For each CPU half a megabyte for IPv4, and room for a thousand flows of which few get in each other's way.
    const LEAST: u32 = 4096;
    let each = (flows / 2 / WAYS as u32 / cpus.max(1)).max(LEAST);
    // The power of two at or below it.
    (1 << each.ilog2()) * cpus
}

/// Blocks of ports that rules listen on: most have one, and a range has thirty at most.
fn listeners(rules: u32) -> u32 {
    /// Fewer take no memory that matters.
    const LEAST: u32 = 16_384;
    rules.saturating_mul(4).max(LEAST)
}

/// CPUs that there can be: one more than the highest number.
pub(super) fn cpus() -> anyhow::Result<u32> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| {
        anyhow::Error::from(error).context(format!("cannot tell the CPUs from {path}"))
    })?;
    Ok(u32::try_from(cpus)?)
}

/// Takes the map `name` out of the object as a typed map.
pub(super) fn take<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &str) -> anyhow::Result<M>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the eBPF object has no map `{name}`"))?;
    M::try_from(map).with_context(|| format!("the map `{name}` is of another type"))
}

/// A second descriptor of the map `name`, for the batch calls that aya has no wrapper for.
pub(super) fn descriptor(ebpf: &Ebpf, name: &str) -> anyhow::Result<(OwnedFd, u32)> {
    let data: &MapData = match ebpf.map(name) {
        Some(
            Map::HashMap(data)
            | Map::PerCpuHashMap(data)
            | Map::Array(data)
            | Map::PerCpuArray(data)
            | Map::LpmTrie(data)
            | Map::RingBuf(data),
        ) => data,
        _ => anyhow::bail!("the eBPF object has no map `{name}`"),
    };
    let descriptor = data.fd().as_fd().try_clone_to_owned()?;
    Ok((descriptor, data.info()?.max_entries()))
}
