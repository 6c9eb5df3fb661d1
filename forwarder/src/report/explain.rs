//! `forwarder explain`: one stage of a packet's way a line, and what leaves.

use serde::{Deserialize, Serialize};

use super::Render;
use super::table::{Side, Table};

/// What would become of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet as it was described.
    pub packet: PacketReport,
    /// The device that it comes in by, or is about to leave by.
    pub interface: String,
    /// What each stage decided, in order.
    pub stages: Vec<StageReport>,
    /// The rule that it meets, or whose flow it is of.
    pub rule: Option<String>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why it is not sent on, if it is not.
    pub reason: Option<String>,
    /// What leaves, or is delivered.
    pub leaves: Option<Leaving>,
}

/// A packet in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketReport {
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// `ADDR:PORT`, or `ADDR` where there is no port.
    pub source: String,
    /// Likewise.
    pub destination: String,
    /// Of TCP.
    pub flags: Vec<String>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Counted from the IP header.
    pub bytes: u32,
}

/// What a stage decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// What it is about.
    pub stage: String,
    /// In words.
    pub decision: String,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It leaves, translated.
    Sent,
    /// It is delivered to this host, translated.
    Delivered,
    /// The kernel gets it, untouched.
    Kernel,
    /// It ends here.
    #[default]
    Dropped,
    /// It ends here, and its sender is told.
    Answered,
}

/// What leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The packet.
    pub packet: PacketReport,
    /// The device; none for this host itself.
    pub interface: Option<String>,
    /// The MAC address that it is sent to, if it is known.
    pub to_mac: Option<String>,
    /// How the program sends it.
    pub by: String,
}

impl Render for Explanation {
    fn render(&self) -> String {
        let mut table = Table::plain([Side::Left; 2]);
        let packet = format!("{} on {}", self.packet.words(), self.interface);
        table.row(["packet".to_owned(), packet]);
        for StageReport { stage, decision } in &self.stages {
            table.row([stage.clone(), decision.clone()]);
        }
        if let Some(leaving) = &self.leaves {
            let word = match self.outcome {
                Outcome::Answered => "answer",
                Outcome::Delivered => "delivered",
                _ => "sent",
            };
            table.row([word.to_owned(), leaving.words()]);
        }
        table.render()
    }
}

impl PacketReport {
    fn words(&self) -> String {
        let flags = match self.flags.is_empty() {
            true => String::new(),
            false => format!(" [{}]", self.flags.join(" ")),
        };
        format!(
            "{} {} -> {}{flags}, TTL {}, {} bytes",
            self.protocol, self.source, self.destination, self.ttl, self.bytes
        )
    }
}

impl Leaving {
    fn words(&self) -> String {
        let device = match &self.interface {
            Some(device) => format!(" by {device}"),
            None => " to this host".to_owned(),
        };
        let to = match &self.to_mac {
            Some(mac) => format!(" to {mac}"),
            None => String::new(),
        };
        format!("{}{device}{to} ({})", self.packet.words(), self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_a_line() {
        let packet = PacketReport {
            protocol: "tcp".to_owned(),
            source: "198.51.100.7:40000".to_owned(),
            destination: "203.0.113.5:110".to_owned(),
            flags: vec!["syn".to_owned()],
            ttl: 64,
            bytes: 40,
        };
        let explanation = Explanation {
            interface: "eth0".to_owned(),
            stages: vec![StageReport {
                stage: "rule".to_owned(),
                decision: "pop3".to_owned(),
            }],
            rule: Some("pop3".to_owned()),
            outcome: Outcome::Sent,
            reason: None,
            leaves: Some(Leaving {
                packet: PacketReport {
                    source: "203.0.113.5:40000".to_owned(),
                    destination: "195.228.245.1:110".to_owned(),
                    ttl: 63,
                    ..packet.clone()
                },
                interface: Some("eth0".to_owned()),
                to_mac: Some("02:00:00:00:00:01".to_owned()),
                by: "XDP_TX".to_owned(),
            }),
            packet,
        };
        assert_eq!(
            explanation.render(),
            "\
packet  tcp 198.51.100.7:40000 -> 203.0.113.5:110 [syn], TTL 64, 40 bytes on eth0
rule    pop3
sent    tcp 203.0.113.5:40000 -> 195.228.245.1:110 [syn], TTL 63, 40 bytes by eth0 to 02:00:00:00:00:01 (XDP_TX)
"
        );
    }
}
