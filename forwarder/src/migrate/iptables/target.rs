//! Targets of iptables' rules: what follows `-j`.

use std::net::IpAddr;

use super::values::{self, Endpoint};
use super::words::Words;
use crate::config::PortRange;
use crate::migrate::ruleset::{Action, ChainId, Clamp, Destination, Nat};

/// A target with its options as they stand.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// `None`: the rule counts and does nothing.
    pub name: Option<String>,
    pub goto: bool,
    endpoints: Vec<String>,
    ports: Option<String>,
    clamp: Option<String>,
    flags: Vec<String>,
    /// What is not understood.
    rest: Vec<String>,
}

/// Takes `word` if it is about the target.
pub(super) fn option(target: &mut Target, word: &str, words: &mut Words) -> bool {
    let (word, mut value) = match word.split_once('=') {
        Some((word, value)) if word.starts_with("--to") => (word, Some(value.to_owned())),
        _ => (word, None),
    };
    let mut next = || value.take().or_else(|| words.next().map(str::to_owned));
    match word {
        "-j" | "--jump" => target.name = next(),
        "-g" | "--goto" => {
            target.name = next();
            target.goto = true;
        }
        "--to-destination" | "--to-source" => target.endpoints.extend(next()),
        // As short as hand-written rules have it.
        "--to" if matches!(target.name.as_deref(), Some("DNAT" | "SNAT")) => {
            target.endpoints.extend(next());
        }
        "--to-ports" | "--to-port" => target.ports = next(),
        "--set-mss" => target.clamp = next(),
        "--clamp-mss-to-pmtu" => target.clamp = Some("path".to_owned()),
        "--random" | "--random-fully" | "--persistent" => target.flags.push(word.to_owned()),
        _ => return false,
    }
    true
}

impl Target {
    /// Takes an option that is no condition's.
    pub fn other(&mut self, word: &str, words: &mut Words) {
        self.rest.push(word.to_owned());
        let values = words.rest_of_option().into_iter();
        self.rest.extend(values.map(str::to_owned));
    }
}

/// Targets after which the next rule is asked.
const ASIDE: [&str; 20] = [
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "LED",
    "LOG",
    "MARK",
    "NFLOG",
    "NOTRACK",
    "SECMARK",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

fn is_aside(name: &str) -> bool {
    name == "REJECT" || ASIDE.contains(&name)
}

impl Target {
    /// An address that it translates to.
    pub fn address(&self) -> Option<IpAddr> {
        let endpoint = values::endpoint(self.endpoints.first()?)?;
        endpoint.addresses.map(|addresses| addresses.first)
    }

    /// What it does; `chain` knows the chains of the table.
    pub fn action(self, chain: impl Fn(&str) -> Option<ChainId>) -> Action {
        let Some(name) = self.name.clone() else {
            return Action::Aside("counter".to_owned());
        };
        match name.as_str() {
            "ACCEPT" => Action::Accept,
            "RETURN" => Action::Return,
            "DROP" | "REJECT" | "TARPIT" => Action::Drop(name),
            "DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE" => {
                let shown = self.shown(&name);
                let nat = if self.rest.is_empty() {
                    self.nat(&name)
                } else {
                    None
                };
                nat.map_or(Action::Other(shown), Action::Nat)
            }
            "TCPMSS" => match self.clamp.as_deref() {
                Some("path") => Action::Clamp(Clamp::Path),
                bytes => bytes
                    .and_then(|bytes| bytes.parse().ok())
                    .map_or(Action::Aside(name), |bytes| {
                        Action::Clamp(Clamp::Bytes(bytes))
                    }),
            },
            word if is_aside(word) => Action::Aside(name),
            word => match chain(word) {
                Some(chain) if self.goto => Action::Goto(chain),
                Some(chain) => Action::Jump(chain),
                None => Action::Other(self.shown(word)),
            },
        }
    }

    fn shown(&self, name: &str) -> String {
        let words = self.endpoints.iter().chain(&self.ports).chain(&self.rest);
        let words: Vec<&str> = words.map(String::as_str).collect();
        format!("-j {name} {}", words.join(" "))
            .trim_end()
            .to_owned()
    }

    fn nat(self, name: &str) -> Option<Nat> {
        let ports = match &self.ports {
            None => None,
            Some(text) => Some(values::target_ports(text)?),
        };
        let endpoints: Option<Vec<Endpoint>> = self
            .endpoints
            .iter()
            .map(|text| values::endpoint(text))
            .collect();
        let (endpoints, flags) = (endpoints?, self.flags);
        match (name, endpoints.as_slice()) {
            ("DNAT", [first, ..]) => destination(&endpoints, first, flags).map(Nat::Destination),
            ("SNAT", [one]) => Some(Nat::Source {
                addresses: one.addresses?,
                ports: one.ports,
                flags,
            }),
            ("REDIRECT", []) => Some(Nat::Redirect { ports, flags }),
            ("MASQUERADE", []) => Some(Nat::Masquerade { ports, flags }),
            _ => None,
        }
    }
}

/// Kernels before 2.6.11 took several destinations.
fn destination(all: &[Endpoint], first: &Endpoint, flags: Vec<String>) -> Option<Destination> {
    let ports: Option<PortRange> = first.ports;
    let alike = all
        .iter()
        .all(|one| (one.ports, one.base) == (ports, first.base));
    let addresses: Vec<_> = all.iter().filter_map(|one| one.addresses).collect();
    let complete = addresses.len() == all.len() || all.len() == 1;
    (alike && complete).then_some(Destination {
        addresses,
        ports,
        base: first.base,
        flags,
    })
}
