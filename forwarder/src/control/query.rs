//! Which flows are asked for, and in which order.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What `forwarder flows` was given. Empty: every flow, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowQuery {
    /// Only of the rule with this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only with an address in this prefix at either end, before or after translation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpNet>,
    /// Only with this port at either end, before or after translation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only in this state, as [`crate::report::FlowReport::state`] has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only of this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<FlowProtocol>,
    /// The largest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<FlowOrder>,
    /// No more than so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl FlowQuery {
    /// Whether some flows are left out on purpose.
    pub fn is_filter(&self) -> bool {
        let filter = Self {
            sort: None,
            limit: None,
            ..self.clone()
        };
        filter != Self::default()
    }
}

/// A protocol that flows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named like the protocols")]
pub enum FlowProtocol {
    Tcp,
    Udp,
    Icmp,
}

impl FlowProtocol {
    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// By its number.
    pub const fn of(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            _ => Self::Icmp,
        }
    }
}

/// What flows can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FlowOrder {
    /// Bytes of both directions
    Bytes,
    /// Packets of both directions
    Packets,
    /// Time since the first packet
    Age,
    /// Time since the last packet
    Idle,
}

/// A prefix, or an address alone.
///
/// # Errors
/// One sentence about what was expected.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>();
    net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            "expected an address or a prefix such as 198.51.100.7 or 2001:db8::/32".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("198.51.100.7", "198.51.100.7/32")]
    #[case("198.51.100.0/24", "198.51.100.0/24")]
    #[case("2001:db8::1", "2001:db8::1/128")]
    fn an_address_is_a_prefix(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(
            prefix(text).map(|net| net.to_string()),
            Ok(expected.to_owned())
        );
    }

    #[rstest]
    #[case("mail.example.net")]
    #[case("198.51.100.7:110")]
    #[case("198.51.100.0/33")]
    fn what_is_none_is_refused(#[case] text: &str) {
        prefix(text).unwrap_err();
    }

    #[test]
    fn order_and_limit_leave_nothing_out_on_purpose() {
        let sorted = FlowQuery {
            sort: Some(FlowOrder::Bytes),
            limit: Some(3),
            ..FlowQuery::default()
        };
        assert!(!sorted.is_filter());
        let port = FlowQuery {
            port: Some(110),
            ..sorted
        };
        assert!(port.is_filter());
    }
}
