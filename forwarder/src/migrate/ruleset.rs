//! Netfilter's rules of one family, whoever wrote them down: what `iptables-save` and `nft` are read into, and what is
//! translated.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::journal::OriginId;
pub(super) use super::nat::{Addresses, Destination, Nat};
use crate::config::PortRange;

/// Which packets a ruleset sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the usual two")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Every address of it.
    pub fn everything(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Self::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Where in the stack a chain is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// All rules of one family.
#[derive(Clone, Debug)]
pub(super) struct Ruleset {
    pub family: Family,
    /// What translates addresses.
    pub nat: Table,
    /// Everything else: `filter`, `mangle`, `raw`, `security`.
    pub others: Vec<Table>,
}

impl Ruleset {
    pub fn new(family: Family) -> Self {
        Self {
            family,
            nat: Table::new("nat"),
            others: Vec::new(),
        }
    }
}

/// Chains that call each other, and where the kernel enters them.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: String,
    pub chains: Vec<Chain>,
    /// Chains in the order in which the kernel enters them; only those of `nft` can be several.
    pub roots: BTreeMap<Hook, Vec<ChainId>>,
}

impl Table {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            chains: Vec::new(),
            roots: BTreeMap::new(),
        }
    }

    pub fn roots(&self, hook: Hook) -> &[ChainId] {
        self.roots.get(&hook).map_or(&[], Vec::as_slice)
    }

    /// Every chain that packets at `hook` can come to.
    pub fn reachable(&self, hook: Hook) -> Vec<ChainId> {
        let mut found: Vec<ChainId> = self.roots(hook).to_vec();
        let mut next = 0;
        while let Some(&chain) = found.get(next) {
            next += 1;
            for called in self.chains[chain].rules.iter().filter_map(Rule::calls) {
                if !found.contains(&called) {
                    found.push(called);
                }
            }
        }
        found
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.iter().flat_map(|chain| &chain.rules)
    }

    /// Takes out every jump that leads back to its own chain. The kernel takes no such rules, but a file may have them.
    pub fn break_circles(&mut self) {
        let mut safe = vec![false; self.chains.len()];
        // A chain is safe once all chains that it calls are.
        loop {
            let before = safe.iter().filter(|one| **one).count();
            for chain in 0..self.chains.len() {
                let mut calls = self.chains[chain].rules.iter().filter_map(Rule::calls);
                safe[chain] |= calls.all(|called| safe[called]);
            }
            if safe.iter().filter(|one| **one).count() == before {
                break;
            }
        }
        for (chain, _) in self
            .chains
            .iter_mut()
            .zip(&safe)
            .filter(|(_, safe)| !**safe)
        {
            for rule in &mut chain.rules {
                if rule.calls().is_some_and(|called| !safe[called]) {
                    rule.action = Action::Other("a jump in a circle".to_owned());
                }
            }
        }
    }
}

/// Position in [`Table::chains`].
pub(super) type ChainId = usize;

#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub name: String,
    pub rules: Vec<Rule>,
    /// Where a policy that drops what no rule decides about is set.
    pub drops_by: Option<OriginId>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub origin: OriginId,
    /// All have to hold.
    pub matches: Vec<Match>,
    pub action: Action,
    /// What its author has to say about it.
    pub comment: Option<String>,
}

impl Rule {
    pub fn calls(&self) -> Option<ChainId> {
        match self.action {
            Action::Jump(chain) | Action::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Match {
    /// The device that a packet arrives by.
    In(Is<Device>),
    /// The device that it leaves by.
    Out(Is<Device>),
    Source(Is<Vec<IpNet>>),
    Destination(Is<Vec<IpNet>>),
    /// Numbers of protocols.
    Protocol(Is<Vec<u8>>),
    /// Destination ports, of any protocol that has some.
    Ports(Is<Vec<PortRange>>),
    SourcePorts(Is<Vec<PortRange>>),
    /// Whether the destination is one of this host's addresses.
    Local(bool),
    /// Whether the destination has been translated.
    Translated(bool),
    /// Destination before translation.
    OriginalDestination(Is<Vec<IpNet>>),
    OriginalPorts(Is<Vec<PortRange>>),
    /// This part of new connections, above 0 and below 1.
    Share(f64),
    /// Holds for no packet that is forwarded, for this reason.
    Never(String),
    /// Something about packets that a configuration cannot say; as its author wrote it.
    Other(String),
}

/// A value, or everything but it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Is<T> {
    pub not: bool,
    pub value: T,
}

impl<T> Is<T> {
    pub fn new(not: bool, value: T) -> Self {
        Self { not, value }
    }

    /// What a condition says whose value does (or does not) fit.
    pub fn holds(&self, fits: bool) -> bool {
        fits != self.not
    }
}

/// A device's name, or the beginning of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub name: String,
    /// Whether this is but the beginning of names (`eth+`, `eth*`).
    pub open: bool,
}

impl Device {
    /// `wildcard` is the character that stands for the rest of a name.
    pub fn parse(text: &str, wildcard: char) -> Self {
        match text.strip_suffix(wildcard) {
            Some(name) => Self {
                name: name.to_owned(),
                open: true,
            },
            None => Self {
                name: text.to_owned(),
                open: false,
            },
        }
    }

    pub fn fits(&self, name: &str) -> bool {
        match self.open {
            true => name.starts_with(&self.name),
            false => name == self.name,
        }
    }
}

/// What a rule does with a packet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Nothing is translated, and no later rule is asked.
    Accept,
    Return,
    /// The packet goes no further; by which word.
    Drop(String),
    Jump(ChainId),
    Goto(ChainId),
    Nat(Nat),
    /// Does something else, by this word, and the next rule is asked.
    Aside(String),
    /// Lowers the segment size of TCP connections.
    Clamp(Clamp),
    /// Decides in a way that no configuration can say; as its author wrote it.
    Other(String),
}

/// A segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clamp {
    Path,
    Bytes(u16),
}
