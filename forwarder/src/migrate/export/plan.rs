//! Netfilter's rules before they are written in either of its languages.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Config, MssClamp, PortRange, Protocol, ProtocolPorts};

use super::Family;

/// The rules of one family, by the chains that they are for.
#[derive(Debug)]
pub(super) struct Plan {
    pub family: Family,
    /// Who may use a `[[forward]]`: before anything is translated.
    pub clients: Vec<Line>,
    pub arriving: Vec<Line>,
    pub own: Vec<Line>,
    pub leaving: Vec<Line>,
    /// What clients of a `[[masquerade]]` may: on the way through.
    pub passing: Vec<Line>,
    pub clamps: Vec<Line>,
    /// What netfilter cannot do.
    pub remarks: Vec<String>,
}

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The rule of the configuration that it comes from.
    pub name: String,
    pub when: When,
    pub act: Act,
}

/// Conditions, of which all have to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct When {
    pub input: Option<String>,
    pub not_output: Option<String>,
    pub source: Option<IpNet>,
    pub destination: Option<IpNet>,
    pub protocol: Option<Protocol>,
    /// Destination ports; all of them if it is empty.
    pub ports: Vec<PortRange>,
    pub source_ports: Option<PortRange>,
    /// Whether the destination has been translated.
    pub translated: Option<bool>,
    /// The destination before that.
    pub original: Option<(Option<IpAddr>, PortRange)>,
    /// Echo requests.
    pub echo: bool,
    /// SYN and SYN-ACK.
    pub handshake: bool,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// To one of these, each as likely as another.
    Send(Vec<IpAddr>, Port),
    /// To this host.
    Redirect(Port),
    Masquerade(Option<PortRange>),
    From([IpAddr; 2], Option<PortRange>),
    Return,
    Drop,
    Clamp(MssClamp),
}

/// The new port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Port {
    Same,
    Single(u16),
    /// The nth of the first range becomes the nth of the second.
    Shift(PortRange, PortRange),
}

impl Plan {
    pub fn of(config: &Config, family: Family) -> Self {
        let mut plan = Self {
            family,
            clients: Vec::new(),
            arriving: Vec::new(),
            own: Vec::new(),
            leaving: Vec::new(),
            passing: Vec::new(),
            clamps: Vec::new(),
            remarks: Vec::new(),
        };
        super::rules::forwards(&mut plan, config);
        super::rules::masquerades(&mut plan, config);
        super::rules::outputs(&mut plan, config);
        plan
    }

    pub fn rule_count(&self) -> usize {
        self.arriving.len() + self.leaving.len() + self.own.len()
    }

    pub fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }
}

impl When {
    /// The same for other clients.
    pub fn from(&self, source: IpNet) -> Self {
        Self {
            source: Some(source),
            ..self.clone()
        }
    }
}

/// The ports of one protocol among `all`; `None` if there are none.
pub(super) fn of_protocol(all: &[ProtocolPorts], protocol: Protocol) -> Option<Vec<PortRange>> {
    if all.is_empty() {
        return Some(Vec::new());
    }
    let ports = all.iter().filter(|one| one.protocol == protocol);
    let ports: Vec<PortRange> = ports.map(|one| one.ports).collect();
    match ports.as_slice() {
        [] => None,
        [PortRange::ALL] => Some(Vec::new()),
        _ => Some(ports),
    }
}
