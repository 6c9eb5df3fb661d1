//! Translations of netfilter's.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::PortRange;

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
