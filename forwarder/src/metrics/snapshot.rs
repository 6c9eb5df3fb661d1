//! What metrics are made of.

use forwarder_common::{reason::Reason, stats::Traffic};

use crate::{datapath::Fill, events::Totals, report::InterfaceStatus};

/// All figures at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The daemon's version.
    pub version: String,
    /// Version of the layout of the maps.
    pub abi: u32,
    /// When the daemon started, in seconds since 1970.
    pub started: f64,
    /// Changes of routes, rules, neighbours, devices and addresses so far.
    pub generation: u32,
    /// In the configuration's order.
    pub interfaces: Vec<InterfaceStatus>,
    /// Rules that are configured, and those that are gone but still have flows.
    pub rules: Vec<RuleTotals>,
    /// Packets not sent on.
    pub reasons: Vec<(Reason, u64)>,
    /// Tables that change with rules and with the network.
    pub tables: Vec<Fill>,
    /// What sweeps did.
    pub sweeps: SweepTotals,
    /// What the last sweep found; `None` before the first.
    pub swept: Option<Swept>,
    /// What has been told of flows that begin and end.
    pub events: Totals,
}

/// What one rule has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTotals {
    /// Its name.
    pub name: String,
    /// By hook (XDP, TC) and direction (original, reply).
    pub by_hook: [[Traffic; 2]; 2],
    /// Flows ever opened.
    pub opened: u64,
}

/// All sweeps together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepTotals {
    /// Upper bounds in seconds, each with the sweeps that took longer than the one before and no longer than this.
    pub durations: Vec<(f64, u64)>,
    /// Seconds that all of them took.
    pub seconds: f64,
    /// Flows removed.
    pub removed: u64,
}

/// What one sweep found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Swept {
    /// Seconds since it ended.
    pub age: f64,
    /// Flows by rule, protocol and state.
    pub flows: Vec<FlowCount>,
    /// Flow tables and mappings.
    pub tables: Vec<Fill>,
    /// The source ports in use.
    pub pools: Vec<PoolCount>,
    /// Pools that are not among them, because there are too many.
    pub pools_left_out: u64,
}

/// Flows of one rule in one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCount {
    /// The rule's name.
    pub rule: String,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: &'static str,
    /// As `forwarder flows` shows it.
    pub state: &'static str,
    /// How many.
    pub count: u64,
}

/// Flows that share the ports of one source address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolCount {
    /// The rule's name.
    pub rule: String,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The translated address.
    pub source: String,
    /// `ADDR:PORT` towards which a port can be used once, or `any`.
    pub backend: String,
    /// Ports in use.
    pub used: u64,
    /// Ports that are left.
    pub free: u64,
}
