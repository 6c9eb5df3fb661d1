//! What only watches: rules and interfaces whose mode is `shadow`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RuleReport, Traffic, counted, human};

/// Of the whole forwarder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// Rules that only watch, by their own mode or that of their interfaces.
    pub rules: u64,
    /// Interfaces whose mode is `shadow`.
    pub interfaces: Vec<String>,
    /// Flows of all rules, compared with what the kernel has made of them.
    pub compared: ComparisonReport,
    /// Why nothing is compared at the moment.
    pub unavailable: Option<String>,
}

/// What one rule would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowReport {
    /// From clients.
    pub original: Traffic,
    /// To clients.
    pub reply: Traffic,
    /// Flows that it would have opened.
    pub flows_opened: u64,
    /// What it would have dropped.
    pub dropped: Vec<WouldDrop>,
    /// Its flows, compared with what the kernel has made of them.
    pub compared: ComparisonReport,
}

/// Packets that would have been dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldDrop {
    /// Why.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

/// Flows, beside the connections that conntrack has for the same packets; since the daemon was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonReport {
    /// To the same server, or another one of the rule's, and as the same address.
    pub agreed: u64,
    /// Not so.
    pub different: u64,
    /// Conntrack has no such connection: a firewall has refused it, or it was over.
    pub untracked: u64,
    /// The last that was different.
    pub last_difference: Option<DifferenceReport>,
}

/// A connection that the kernel treats in another way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceReport {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The client.
    pub source: String,
    /// What it asked for.
    pub destination: String,
    /// Where the forwarder would send it, and as whom.
    pub forwarder: String,
    /// Where the kernel has sent it, and as whom.
    pub kernel: String,
    /// Since it was found.
    pub seconds_ago: u64,
}

impl fmt::Display for DifferenceReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            source,
            destination,
            forwarder,
            kernel,
            ..
        } = self;
        write!(
            out,
            "{protocol} {source} -> {destination} would go {forwarder}, the kernel sends it {kernel}"
        )
    }
}

impl fmt::Display for ComparisonReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [agreed, different, untracked] =
            [self.agreed, self.different, self.untracked].map(human::count);
        write!(
            out,
            "conntrack agrees on {agreed}, differs on {different}, does not know {untracked}"
        )
    }
}

impl ShadowStatus {
    pub(super) fn line(&self) -> String {
        let mut what = vec![counted(self.rules as usize, "rule")];
        if !self.interfaces.is_empty() {
            what.push(format!("all flows from {}", self.interfaces.join(", ")));
        }
        let compared = match &self.unavailable {
            Some(why) => format!("not compared, {why}"),
            None => self.compared.to_string(),
        };
        format!(
            "{}: counted and left to the kernel; {compared}",
            what.join(" and ")
        )
    }
}

impl RuleReport {
    /// What was only watched.
    pub(super) fn shadow_lines(&self) -> String {
        let name = &self.name;
        let Some(shadow) = &self.shadow else {
            return format!("{name} in shadow: no packets yet\n");
        };
        let amount = |traffic: Traffic| {
            let (packets, bytes) = (human::count(traffic.packets), human::bytes(traffic.bytes));
            format!("{packets} / {bytes}")
        };
        let mut lines = format!(
            "{name} in shadow: would have opened {} flows, original {}, reply {}\n",
            human::count(shadow.flows_opened),
            amount(shadow.original),
            amount(shadow.reply),
        );
        for WouldDrop { reason, packets } in &shadow.dropped {
            let packets = human::count(*packets);
            lines.push_str(&format!(
                "  would have dropped {packets} packets: {reason}\n"
            ));
        }
        lines.push_str(&format!("  {}\n", shadow.compared));
        if let Some(last) = &shadow.compared.last_difference {
            let ago = human::duration(last.seconds_ago);
            lines.push_str(&format!("  last difference, {ago} ago: {last}\n"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_have_been_is_told_in_lines() {
        let shadow = ShadowReport {
            original: Traffic {
                packets: 12,
                bytes: 1536,
            },
            flows_opened: 1000,
            dropped: vec![WouldDrop {
                reason: "client-refused".to_owned(),
                packets: 3,
            }],
            compared: ComparisonReport {
                agreed: 998,
                different: 1,
                untracked: 1,
                last_difference: Some(DifferenceReport {
                    protocol: "tcp".to_owned(),
                    source: "198.51.100.7:40000".to_owned(),
                    destination: "203.0.113.5:110".to_owned(),
                    forwarder: "to 192.0.2.1:110 as 203.0.113.5".to_owned(),
                    kernel: "to 192.0.2.2:110 as 203.0.113.5".to_owned(),
                    seconds_ago: 61,
                }),
            },
            ..ShadowReport::default()
        };
        let rule = RuleReport {
            name: "pop3".to_owned(),
            is_shadow: true,
            shadow: Some(shadow),
            ..RuleReport::default()
        };
        let expected = "\
pop3 in shadow: would have opened 1,000 flows, original 12 / 1.5 KiB, reply 0 / 0 B
  would have dropped 3 packets: client-refused
  conntrack agrees on 998, differs on 1, does not know 1
  last difference, 1m 1s ago: tcp 198.51.100.7:40000 -> 203.0.113.5:110 would go to 192.0.2.1:110 as 203.0.113.5, the \
kernel sends it to 192.0.2.2:110 as 203.0.113.5
";
        assert_eq!(rule.shadow_lines(), expected);
    }
}
