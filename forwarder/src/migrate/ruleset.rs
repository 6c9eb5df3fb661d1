//! Netfilter's rules of one family, whoever wrote them down: what `iptables-save` and `nft` are read into, and what is
//! translated.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::journal::OriginId;
use crate::config::PortRange;

/// Which packets a ruleset sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
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

/// A translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    Destination(Destination),
    /// To this host itself.
    Redirect {
        ports: Option<PortRange>,
        flags: Vec<String>,
    },
    Source {
        addresses: Addresses,
        ports: Option<PortRange>,
        flags: Vec<String>,
    },
    Masquerade {
        ports: Option<PortRange>,
        flags: Vec<String>,
    },
}

impl Nat {
    /// Words such as `--random` that say how a port or address is chosen.
    pub fn flags(&self) -> &[String] {
        match self {
            Self::Destination(to) => &to.flags,
            Self::Redirect { flags, .. }
            | Self::Source { flags, .. }
            | Self::Masquerade { flags, .. } => flags,
        }
    }
}

/// A new destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// None: the address stays.
    pub addresses: Vec<Addresses>,
    /// `None`: the port stays.
    pub ports: Option<PortRange>,
    /// The port that becomes the first of `ports`; the nth after it becomes the nth.
    pub base: Option<u16>,
    pub flags: Vec<String>,
}

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub first: IpAddr,
    pub last: IpAddr,
}

impl Addresses {
    /// `None` if they are of two families or the wrong way round.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// All of them, unless that is more than `most`.
    pub fn list(self, most: usize) -> Option<Vec<IpAddr>> {
        let mut all = vec![self.first];
        let mut at = self.first;
        while at != self.last {
            at = match at {
                IpAddr::V4(address) => address
                    .to_bits()
                    .checked_add(1)
                    .map(|next| IpAddr::V4(std::net::Ipv4Addr::from_bits(next)))?,
                IpAddr::V6(address) => address
                    .to_bits()
                    .checked_add(1)
                    .map(|next| IpAddr::V6(std::net::Ipv6Addr::from_bits(next)))?,
            };
            all.push(at);
            if all.len() > most {
                return None;
            }
        }
        Some(all)
    }

    /// The shortest list of prefixes that holds these addresses and no others.
    pub fn prefixes(self) -> Vec<IpNet> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => ipnet::Ipv4Subnets::new(first, last, 0)
                .map(IpNet::V4)
                .collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => ipnet::Ipv6Subnets::new(first, last, 0)
                .map(IpNet::V6)
                .collect(),
            _ => Vec::new(),
        }
    }
}
