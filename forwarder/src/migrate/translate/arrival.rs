//! Packets that arrive, before anything is translated.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{PortRange, Protocol};
use crate::migrate::clients::ClientSet;
use crate::migrate::ruleset::{Addresses, Device, Family, Is, Match};

use super::course::{Facts, Holds};
use super::places::Places;
use super::slice::have;

/// More addresses than this are not written out as listeners one by one.
const MOST_ADDRESSES: u32 = 16;

/// Packets of one protocol to some ports, by one device and to one address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub places: &'a Places,
    pub family: Family,
    /// `None`: a device that no rule names.
    pub interface: Option<&'a str>,
    /// `None`: an address that is not one of `named`.
    pub destination: Option<IpAddr>,
    pub named: &'a BTreeSet<IpAddr>,
    pub protocol: Protocol,
    pub ports: PortRange,
}

impl Facts for Arrival<'_> {
    fn holds(&self, condition: &Match) -> Holds {
        match condition {
            Match::In(device) => yes(device.holds(self.arrives_by(&device.value))),
            Match::Out(device) => unclear(&format!("-o {}", device.value.name)),
            Match::Source(list) => clients(self.family, list),
            Match::Destination(list) | Match::OriginalDestination(list) => self.goes_to(list),
            Match::Protocol(list) => yes(list.holds(list.value.contains(&number(self.protocol)))),
            Match::Ports(list) | Match::OriginalPorts(list) => {
                yes(list.holds(have(&list.value, self.ports)))
            }
            Match::Local(local) => self.is_local(*local),
            Match::Translated(translated) => yes(!translated),
            other => general(other),
        }
    }
}

impl Arrival<'_> {
    fn arrives_by(&self, device: &Device) -> bool {
        match self.interface {
            Some(name) => device.fits(name),
            None => device.open && device.name.is_empty(),
        }
    }

    fn goes_to(&self, list: &Is<Vec<IpNet>>) -> Holds {
        if let Some(address) = self.destination {
            return yes(list.holds(list.value.iter().any(|one| one.contains(&address))));
        }
        let everything = list.value.iter().any(|one| one.prefix_len() == 0);
        let large = list.value.iter().find(|one| {
            let few = few(**one).is_some_and(|all| all.iter().all(|one| self.named.contains(one)));
            !few && !never_arrives(**one)
        });
        match large {
            _ if everything => yes(list.holds(true)),
            Some(prefix) => Holds::Unclear(format!(
                "a listener has one address or all of them, and `{prefix}` is neither"
            )),
            None => yes(list.holds(false)),
        }
    }

    fn is_local(&self, local: bool) -> Holds {
        if self.places.knows_own(self.family) {
            let own = self
                .destination
                .is_some_and(|one| self.places.own.contains(&one));
            return yes(own == local);
        }
        if self.destination.is_some() {
            return yes(local);
        }
        // Where clients are, what is not for this host is for others: `*` would take their connections away.
        let inside = self
            .interface
            .is_some_and(|name| self.places.is_inside(name));
        match (local, inside) {
            (true, true) => Holds::AssumedNot(format!(
                "not on {}, where `*` would take what clients there send to other hosts; \
                 `--address ADDR` names this host's addresses",
                self.interface.unwrap_or_default()
            )),
            (true, false) => Holds::Assumed(
                "it takes only what is for this host's own addresses, and `*` takes everything that arrives; \
                 `--address ADDR` names them"
                    .to_owned(),
            ),
            (false, _) => unclear("! --dst-type LOCAL"),
        }
    }
}

/// The addresses of `prefix`, if they are few enough to be listed.
pub(super) fn few(prefix: IpNet) -> Option<Vec<IpAddr>> {
    let bits = u32::from(prefix.max_prefix_len() - prefix.prefix_len());
    if bits > MOST_ADDRESSES.ilog2() {
        return None;
    }
    // All of them, the first and the last included: a router that has such a prefix has all its addresses.
    let all = Addresses {
        first: prefix.network(),
        last: match prefix {
            IpNet::V4(prefix) => IpAddr::V4(prefix.broadcast()),
            IpNet::V6(prefix) => IpAddr::V6(prefix.broadcast()),
        },
    };
    all.list(MOST_ADDRESSES as usize)
}

/// Whether packets to `prefix` are never any rule's of the forwarder.
pub(super) fn never_arrives(prefix: IpNet) -> bool {
    let address = prefix.addr();
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    prefix.prefix_len() >= 4 && (address.is_loopback() || address.is_multicast() || link_local)
}

/// What a condition on the source says.
pub(super) fn clients(family: Family, list: &Is<Vec<IpNet>>) -> Holds {
    let set = ClientSet::new(family, &list.value);
    Holds::Clients(if list.not { set.complement() } else { set })
}

/// What conditions say that mean the same everywhere.
pub(super) fn general(condition: &Match) -> Holds {
    match condition {
        Match::Share(part) => Holds::Share(*part),
        Match::Never(_) => Holds::No,
        Match::SourcePorts(_) => unclear("--sport"),
        Match::Other(text) => unclear(text),
        _ => Holds::Unclear("it stands where it cannot hold".to_owned()),
    }
}

pub(super) fn yes(holds: bool) -> Holds {
    if holds { Holds::Yes } else { Holds::No }
}

pub(super) fn unclear(text: &str) -> Holds {
    Holds::Unclear(format!("`{text}` has no equivalent"))
}

pub(super) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}
