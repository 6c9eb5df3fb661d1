//! Running one packet through the programs without anything coming of it: the same programs once more, over the rules,
//! devices and addresses that are in force, but with flows, counters and scratch space of their own.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use aya::{
    EbpfLoader,
    maps::{Array, Map, MapData, PerCpuArray},
};
use forwarder_common::{
    address::{V4, V6},
    half_open::HalfOpen,
    port::ATTEMPTS,
    reason::{Reason, Verdict},
    rule::CLIENTS_ANY,
    settings::{FAMILY_V4, FAMILY_V6, Settings},
};

use super::{
    Entry, Key, Pins, TestRun,
    family::Family as _,
    globals::{Globals, SECTIONS, record},
    object::{OBJECT, take},
    programs::Programs,
    trial_tables::TrialTables,
};

/// Tables that are those in force.
const SHARED: [&str; 5] = ["SHAPES", "DEVICES", "VLANS", "QUERIES", "PROXIES"];
/// The same, of which each family has one. Nothing a program does writes to them.
const SHARED_EACH: [&str; 6] = [
    "LISTENERS",
    "BACKENDS",
    "CLIENTS",
    "OUTBOUND",
    "MASQUERADE",
    "OWN",
];
/// Tables that hold the one flow of a trial, and those that are in its way.
const OWN_EACH: [&str; 4] = ["FLOWS", "MAPPINGS", "DATAGRAMS", "HELD"];
/// The share of half-open flows.
const HALF_OPEN: &str = "HALF_OPEN";
/// Room in each of them.
const ROOM: u32 = 256;

/// Which program a packet is run through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// XDP.
    Xdp,
    /// TC ingress.
    Tc,
    /// TC egress.
    Egress,
}

/// A frame at a program.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The program.
    pub program: Program,
    /// The frame, from its Ethernet header on.
    pub frame: Vec<u8>,
    /// The device that it comes in by; on egress, that it is about to leave by.
    pub device: u32,
}

/// What a program did with it.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The program.
    pub program: Program,
    /// Its return value.
    pub verdict: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What was counted.
    pub reasons: Vec<Reason>,
}

impl Ran {
    /// Whether the slow path is to go on.
    pub fn is_handed_over(&self) -> bool {
        self.program == Program::Xdp
            && self
                .reasons
                .iter()
                .any(|reason| reason.verdict() == Verdict::SlowPath)
    }
}

/// What came of a packet.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What each program did.
    pub runs: Vec<Ran>,
    /// Why the kernel would not run the XDP program for this device, if so; the TC program has stood in for it.
    pub stand_in: Option<String>,
    /// The flow it is of: its direction's entry, and the other one.
    pub known: Option<[Entry; 2]>,
    /// The flow that it has opened, if it has opened one.
    pub opened: Option<[Entry; 2]>,
    /// The rule that it has met without being of a flow.
    pub met: Option<Met>,
}

/// How far a packet got that opens a flow.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// Slot of the rule.
    pub rule: u32,
    /// Whether the rule asks who its clients are.
    pub asks: bool,
    /// Where it would go, if that was decided.
    pub target: Option<SocketAddr>,
}

/// The programs, and tables for one packet.
pub struct Trial {
    programs: Programs,
    pins: Pins,
    settings: Array<MapData, Settings>,
    /// How many flows are half-open and may be: of the trial, and in force.
    half_open: [Array<MapData, HalfOpen>; 2],
    reasons: PerCpuArray<MapData, u64>,
    v4: TrialTables<V4>,
    v6: TrialTables<V6>,
}

impl Trial {
    /// Creates the tables. Programs are loaded when a packet needs them.
    ///
    /// # Errors
    /// The kernel refuses a map.
    pub fn load(pins: Pins) -> anyhow::Result<Self> {
        let each = |name: &str| [V4::SUFFIX, V6::SUFFIX].map(|suffix| format!("{name}_{suffix}"));
        let shared: Vec<String> = SHARED
            .into_iter()
            .map(str::to_owned)
            .chain(SHARED_EACH.into_iter().flat_map(each))
            .collect();
        let own: Vec<String> = OWN_EACH.into_iter().flat_map(each).collect();
        let globals = Globals::read(Some(&pins))?;
        let mut loader = EbpfLoader::new();
        globals.keep(&mut loader);
        for name in &shared {
            loader.map_pin_path(name, pins.map(name));
        }
        for name in &own {
            loader.map_max_entries(name, ROOM);
        }
        let mut ebpf = loader.load(OBJECT).context("cannot create the maps")?;
        Ok(Self {
            settings: take(&mut ebpf, ".bss.settings")?,
            half_open: [take(&mut ebpf, HALF_OPEN)?, pinned(&pins, HALF_OPEN)?],
            reasons: take(&mut ebpf, "REASONS")?,
            v4: TrialTables::take(&mut ebpf, &pins)?,
            v6: TrialTables::take(&mut ebpf, &pins)?,
            programs: Programs::load(ebpf)?,
            pins,
        })
    }

    /// Runs the packet `key` through the program of `first`, and by `slow` where that one hands it over. A source port
    /// that a flow in force has is not given: it is put in the way, and the packet runs once more.
    ///
    /// # Errors
    /// The kernel refuses a program, a map or the test run.
    pub fn run(&mut self, key: &Key, first: &Shot, slow: Option<&Shot>) -> anyhow::Result<Tried> {
        match key.source {
            IpAddr::V4(_) => self.programs.serve(FAMILY_V4)?,
            IpAddr::V6(_) => self.programs.serve(FAMILY_V6)?,
        }
        let settings: Option<Settings> = record(Some(&self.pins), SECTIONS[0])?;
        let settings = settings.context("there are no settings")?;
        self.settings.set(0, settings, 0)?;
        let [own, live] = &mut self.half_open;
        for family in 0..2 {
            own.set(family, live.get(&family, 0)?, 0)?;
        }
        let known = self.v4.begin(key)?.or(self.v6.begin(key)?);
        for _ in 0..ATTEMPTS + 2 {
            let tried = self.once(key, first, slow, known)?;
            if !(self.v4.gives_way(key)? || self.v6.gives_way(key)?) {
                return Ok(tried);
            }
        }
        // As the programs have it when the last port is taken as well.
        let mut tried = self.once(key, first, slow, known)?;
        tried.opened = None;
        Ok(tried)
    }

    fn once(
        &mut self,
        key: &Key,
        first: &Shot,
        slow: Option<&Shot>,
        known: Option<[Entry; 2]>,
    ) -> anyhow::Result<Tried> {
        let (mut runs, mut stand_in) = (Vec::new(), None);
        match (self.shoot(first), slow) {
            (Ok(ran), _) => runs.push(ran),
            (Err(error), Some(slow)) => {
                stand_in = Some(format!("{error:#}"));
                runs.push(self.shoot(slow)?);
            }
            (Err(error), None) => return Err(error),
        }
        if let (true, Some(slow)) = (runs.iter().any(Ran::is_handed_over), slow) {
            runs.push(self.shoot(slow)?);
        }
        let opened = match known {
            Some(_) => None,
            None => self.v4.flow(key)?.or(self.v6.flow(key)?),
        };
        Ok(Tried {
            runs,
            stand_in,
            known,
            opened,
            met: self.v4.met(key)?.or(self.v6.met(key)?),
        })
    }

    fn shoot(&mut self, shot: &Shot) -> anyhow::Result<Ran> {
        let before = self.counts()?;
        let TestRun { verdict, packet } = match shot.program {
            Program::Xdp => self.programs.run_xdp(&shot.frame, shot.device)?,
            Program::Tc => self.programs.run_tc(&shot.frame, shot.device)?,
            Program::Egress => self.programs.run_egress(&shot.frame, shot.device)?,
        };
        let after = self.counts()?;
        let counted = Reason::ALL.iter().zip(before.iter().zip(&after));
        Ok(Ran {
            program: shot.program,
            verdict,
            frame: packet,
            reasons: counted
                .filter_map(|(reason, (before, after))| (before != after).then_some(*reason))
                .collect(),
        })
    }

    fn counts(&self) -> anyhow::Result<Vec<u64>> {
        let count = |reason: &Reason| {
            let per_cpu = self.reasons.get(&(*reason as u32), 0)?;
            Ok(per_cpu.iter().sum())
        };
        Reason::ALL.iter().map(count).collect()
    }
}

impl Met {
    /// With the rule's word about clients.
    pub(super) fn new(rule: u32, clients: u8, target: Option<SocketAddr>) -> Self {
        Self {
            rule,
            asks: clients != CLIENTS_ANY,
            target,
        }
    }
}

/// The map `name` as it is pinned.
pub(super) fn pinned<M: TryFrom<Map>>(pins: &Pins, name: &str) -> anyhow::Result<M>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    let map = Map::from_map_data(MapData::from_pin(pins.map(name))?)?;
    Ok(M::try_from(map)?)
}
