//! What is measured, and in which unit.

use serde::{Deserialize, Serialize};

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Packets of known flows.
    Rate,
    /// The gateway's CPU for each of them.
    Cost,
    /// The program alone, by test run, less what an empty one takes.
    Program,
    /// Instructions that the verifier walked through to load the same program.
    Verified,
    /// New flows.
    Open,
    /// The gateway's CPU for each of them.
    OpenCost,
    /// The gateway's CPU for a packet that no rule is about, and that the kernel forwards.
    Foreign,
    /// From the generator to the sink.
    Latency,
    /// Segments of wire size.
    WireTcp,
    /// The gateway's CPU for them.
    WireCost,
    /// Connections between stacks whose sender makes super-packets.
    BulkTcp,
    /// The gateway's CPU for them.
    BulkCost,
    /// Connect, request, response, close.
    Requests,
    /// The gateway's CPU for each of these.
    RequestCost,
    /// What a flow takes.
    Memory,
    /// Making a gateway ready, and changing its rules.
    Setup,
    /// How much of a flood's time the gateway was not at work.
    Idle,
}

impl Measure {
    /// All, in the order of tables.
    pub const ALL: [Self; 17] = [
        Self::Rate,
        Self::Cost,
        Self::Program,
        Self::Verified,
        Self::Open,
        Self::OpenCost,
        Self::Foreign,
        Self::Latency,
        Self::WireTcp,
        Self::WireCost,
        Self::BulkTcp,
        Self::BulkCost,
        Self::Requests,
        Self::RequestCost,
        Self::Memory,
        Self::Setup,
        Self::Idle,
    ];

    /// Its heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Rate => "packets a second, known flows at random",
            Self::Cost => "gateway CPU per packet, sink included",
            Self::Program => "program by test run, less an empty one",
            Self::Verified => "instructions verified when it was loaded",
            Self::Open => "new flows a second",
            Self::OpenCost => "gateway CPU per new flow, sink included",
            Self::Foreign => "gateway CPU per packet that is not ours",
            Self::Latency => "latency, generator to sink",
            Self::WireTcp => "TCP, segments of wire size",
            Self::WireCost => "gateway CPU per kilobyte in segments of wire size, sink included",
            Self::BulkTcp => "TCP between stacks, super-packets",
            Self::BulkCost => "gateway CPU per kilobyte in super-packets",
            Self::Requests => "connect, request, response, close",
            Self::RequestCost => "gateway CPU per short connection, both ends included",
            Self::Memory => "memory per flow",
            Self::Setup => "times",
            Self::Idle => "time without work in a flood",
        }
    }

    /// The same with its unit.
    #[must_use]
    pub fn heading(self) -> String {
        match self.unit() {
            "" => self.title().to_owned(),
            unit => format!("{} ({unit})", self.title()),
        }
    }

    /// Its unit; values are in it.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Rate | Self::Open | Self::Requests => "1/s",
            Self::Cost
            | Self::Program
            | Self::OpenCost
            | Self::Foreign
            | Self::WireCost
            | Self::BulkCost
            | Self::RequestCost => "ns",
            Self::Verified => "",
            Self::Latency => "µs",
            Self::WireTcp | Self::BulkTcp => "Gb/s",
            Self::Memory => "B",
            Self::Setup => "ms",
            Self::Idle => "%",
        }
    }

    /// Whether more is better.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::Rate | Self::Open | Self::WireTcp | Self::BulkTcp | Self::Requests
        )
    }

    /// What the file calls it.
    #[must_use]
    pub fn word(self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value.as_str().unwrap_or_default().to_owned()
    }

    /// The case with whose baseline a case is compared: how many rules there are is the candidates' affair, so
    /// everything is compared with a single one, where that was measured in the same rounds.
    #[must_use]
    pub fn baseline(self, case: &str) -> &str {
        match (self, case) {
            (Self::Rate | Self::Cost, "1k flows, 1k rules" | "1k flows, 10k rules") => "1k flows",
            (Self::Open | Self::OpenCost, "UDP, 1k rules" | "UDP, 10k rules") => "UDP, 1 rule",
            (Self::Open | Self::OpenCost, "TCP SYN, 10k rules") => "TCP SYN, 1 rule",
            _ => case,
        }
    }
}
