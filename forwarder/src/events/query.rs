//! Which events are asked for.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{FlowEvent, Kind};
use crate::control::FlowProtocol;

/// What `forwarder events` was given. Empty: every event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventQuery {
    /// Only of the rule with this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Only with an address in this prefix at either end, before or after translation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpNet>,
    /// Only with this port at either end, before or after translation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only of this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<FlowProtocol>,
    /// Only of these kinds; empty: of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
}

impl EventQuery {
    /// The kinds that are asked for, as [`Kind::bit`]s.
    pub fn bits(&self) -> u32 {
        match self.kinds.is_empty() {
            true => Kind::bits(Kind::ALL),
            false => Kind::bits(self.kinds.iter().copied()),
        }
    }

    /// Whether `event` is asked for.
    pub fn takes(&self, event: &FlowEvent) -> bool {
        let ends = [
            event.client,
            event.listener,
            event.translated,
            event.backend,
        ];
        let within = |net: IpNet| ends.iter().any(|end| net.contains(&end.ip()));
        let uses = |port: u16| ends.iter().any(|end| end.port() == port);
        self.bits() & event.event.bit() != 0
            && self.rule.as_ref().is_none_or(|rule| *rule == event.rule)
            && self.protocol.is_none_or(|one| one == event.protocol)
            && self.address.is_none_or(within)
            && self.port.is_none_or(uses)
    }
}
