//! What the daemon tells about itself: the shapes that travel over the control socket and that `--json`
//! prints, and how they look to people.
//!
//! All counters count since the maps were made, not since the daemon started.

mod advice;
pub(crate) mod drops;
mod explain;
mod flows;
pub(crate) mod human;
mod rules;
mod shadow;
mod status;
mod table;

use serde::{Deserialize, Serialize};

pub use advice::advice;
pub use explain::{Explanation, Leaving, Outcome, PacketReport, StageReport};
pub(crate) use human::bytes;
pub use shadow::{ComparisonReport, DifferenceReport, ShadowReport, ShadowStatus, WouldDrop};

/// Something a person can read, as lines that end with a newline.
pub trait Render {
    /// The whole text.
    fn render(&self) -> String;
}

/// "1 rule", "2 rules".
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// `forwarder status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// How long the daemon has been running; its flows may be older.
    pub uptime_seconds: u64,
    /// The configuration file, or a phrase for a rule from flags.
    pub config: String,
    /// In the configuration's order.
    pub interfaces: Vec<InterfaceStatus>,
    /// Established flows.
    pub flows: Fill,
    /// TCP flows whose handshake is not finished.
    pub half_open: Fill,
    /// Rules in the configuration.
    pub rules: Fill,
    /// What was sent on.
    pub forwarded: Forwarded,
    /// Packets dropped, for whatever reason.
    pub dropped_packets: u64,
    /// What only watches, if anything does.
    #[serde(default)]
    pub shadow: Option<ShadowStatus>,
    /// How often routes, neighbours, links or addresses have changed.
    pub generation: u64,
}

/// One configured interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// The name in the configuration.
    pub name: String,
    /// The kernel's index; none while the device is absent.
    pub index: Option<u32>,
    /// The mode in the configuration.
    pub wanted: String,
    /// Where the program is.
    pub hook: Hook,
    /// Why it is there, in a few words.
    pub why: String,
    /// The device's driver, if it has a name.
    pub driver: Option<String>,
}

/// Where on a device the program is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// The driver's XDP hook.
    Xdp,
    /// The kernel's own XDP hook.
    XdpGeneric,
    /// TC ingress.
    Tc,
    /// Nowhere: the device does not exist at the moment.
    #[default]
    Absent,
}

impl Hook {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
            Self::Absent => "absent",
        }
    }
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Entries in use.
    pub used: u64,
    /// Entries there can be.
    pub limit: u64,
}

/// What was sent on, by both directions and all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// On the fast path.
    pub xdp_packets: u64,
    /// On the slow path.
    pub tc_packets: u64,
    /// On both, counted from the IP header.
    pub bytes: u64,
}

/// What kind of rule it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `[[forward]]`
    #[default]
    Forward,
    /// `[[masquerade]]`
    Masquerade,
    /// `[[output]]`
    Output,
}

/// One rule of `forwarder rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReport {
    /// Its kind.
    #[serde(default)]
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// `tcp`, `udp` or `tcp,udp`.
    pub protocol: String,
    /// The interface it is bound to, if it is.
    pub interface: Option<String>,
    /// As in the configuration.
    pub listen: String,
    /// Backends, as in the configuration.
    pub to: Vec<String>,
    /// As in the configuration.
    pub source: String,
    /// Packets of both directions sent on by the fast path.
    pub xdp_packets: u64,
    /// Packets of both directions sent on by the slow path.
    pub tc_packets: u64,
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Flows ever made.
    pub flows_opened: u64,
    /// Flows there are.
    pub flows_active: u64,
    /// Whether it only watches, by its own mode or that of its interfaces.
    #[serde(default)]
    pub is_shadow: bool,
    /// What it would have done with what was only watched, if there was anything.
    #[serde(default)]
    pub shadow: Option<ShadowReport>,
}

/// An amount of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets, a large segment counting as one.
    pub packets: u64,
    /// Bytes, counted from the IP header.
    pub bytes: u64,
}

/// One flow of `forwarder flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowReport {
    /// The rule that made it.
    pub rule: String,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// Netfilter's name of the state where it has one, in upper case as conntrack prints it.
    pub state: String,
    /// Whether its packets are only watched; the reply is then what it would be.
    #[serde(default)]
    pub shadow: bool,
    /// As the client sends it, before translation.
    pub original: Direction,
    /// As the backend sends it, before translation.
    pub reply: Direction,
    /// Since the first packet.
    pub age_seconds: u64,
    /// Since the last packet.
    pub idle_seconds: u64,
    /// Until it is removed if no packet comes.
    pub expires_seconds: u64,
}

/// One direction of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direction {
    /// `ADDR:PORT`.
    pub source: String,
    /// `ADDR:PORT`.
    pub destination: String,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far, counted from the IP header.
    pub bytes: u64,
    /// Where it arrives.
    pub interface: String,
}

/// One reason of `forwarder drops`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DropReport {
    /// Its name.
    pub reason: String,
    /// What becomes of such packets.
    pub verdict: Verdict,
    /// How many there were.
    pub packets: u64,
    /// How many a second, over half a minute at most.
    #[serde(default)]
    pub rate: f64,
    /// The last one, of those that were dropped.
    #[serde(default)]
    pub last: Option<LastPacket>,
    /// What it means.
    pub explanation: String,
    /// What to do about it.
    #[serde(default)]
    pub advice: String,
}

/// A packet that was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPacket {
    /// `tcp`, `udp`, `icmp` or a protocol number.
    pub protocol: String,
    /// `ADDR:PORT`, or `ADDR` where there is no port.
    pub source: String,
    /// Likewise.
    pub destination: String,
    /// The device that it was on.
    pub interface: String,
    /// Since it was met.
    pub seconds_ago: u64,
}

/// What becomes of a packet that is not sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The kernel gets it, untouched.
    Pass,
    /// The slow path tries.
    SlowPath,
    /// It ends here.
    #[default]
    Drop,
}

impl Verdict {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::SlowPath => "slow-path",
            Self::Drop => "drop",
        }
    }
}
