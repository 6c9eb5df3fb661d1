//! As whom a `[[forward]]` sends: what the rules behind the routing decision do with its packets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{PortRange, Protocol, Source};
use crate::migrate::clients::ClientSet;
use crate::migrate::journal::OriginId;
use crate::migrate::ruleset::{Device, Family, Is, Match, Nat};

use super::arrival::{clients, few, general, number, unclear, yes};
use super::course::{Budget, Decision, End, Facts, Holds};
use super::outcome::flags;
use super::places::{Places, is_private};
use super::slice::{Slice, have};
use super::walk::walk;

/// Packets to one backend, its address and port translated already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure<'a> {
    pub places: &'a Places,
    pub protocol: Protocol,
    pub backend: IpAddr,
    /// At the backend.
    pub ports: PortRange,
    /// Where they were for; `None`: whatever address.
    pub destination: Option<IpAddr>,
    pub listen: PortRange,
    /// The device that they came by; `None`: any.
    pub interface: Option<&'a str>,
}

impl Facts for Departure<'_> {
    fn holds(&self, condition: &Match) -> Holds {
        match condition {
            Match::In(device) => unclear(&format!("-i {}", device.value.name)),
            Match::Out(device) => self.leaves_by(device),
            Match::Source(list) => clients(Family::of(self.backend), list),
            Match::Destination(list) => yes(list.holds(any(list, self.backend))),
            Match::Protocol(list) => yes(list.holds(list.value.contains(&number(self.protocol)))),
            Match::Ports(list) => yes(list.holds(have(&list.value, self.ports))),
            Match::Local(local) => yes(self.places.own.contains(&self.backend) == *local),
            Match::Translated(translated) => yes(*translated),
            Match::OriginalDestination(list) => match self.destination {
                Some(address) => yes(list.holds(any(list, address))),
                // Those that rules name have listeners of their own.
                None if list.value.iter().all(|one| few(*one).is_some()) => yes(list.holds(false)),
                None => unclear("--ctorigdst"),
            },
            Match::OriginalPorts(list) => yes(list.holds(have(&list.value, self.listen))),
            other => general(other),
        }
    }
}

impl Departure<'_> {
    fn leaves_by(&self, device: &Is<Device>) -> Holds {
        if let Some(way) = self.places.way(self.backend) {
            return yes(device.holds(device.value.fits(way)));
        }
        let name = &device.value.name;
        // Translation is for the way out, and a backend with a private address is inside, unless clients come from
        // elsewhere.
        let elsewhere = self.interface.is_some_and(|from| !device.value.fits(from));
        let fits = !is_private(self.backend) || elsewhere;
        let what = match (fits, elsewhere) {
            (true, true) => format!("{name} leads to backends of what arrives by other devices"),
            (true, false) => format!("{name} leads to backends with public addresses"),
            (false, _) => format!("{name} does not lead to backends with private addresses"),
        };
        let reason =
            format!("that {what} is an assumption; `--route PREFIX=INTERFACE` says what is so");
        match device.holds(fits) {
            true => Holds::Assumed(reason),
            false => Holds::AssumedNot(reason),
        }
    }
}

fn any(list: &Is<Vec<IpNet>>, address: IpAddr) -> bool {
    list.value.iter().any(|prefix| prefix.contains(&address))
}

/// As whom, and which rules say so.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub source: Source,
    pub ports: Option<PortRange>,
    pub origins: Vec<OriginId>,
    pub remarks: Vec<(OriginId, String)>,
}

/// What the rules of `slice` make of the source of packets of `clients`.
///
/// # Errors
/// The rules that make it impossible to say in one word, and why.
pub(super) fn find(
    slice: &Slice,
    departure: &Departure,
    clients: &ClientSet,
    budget: &Budget,
) -> Result<Found, (Vec<OriginId>, String)> {
    // Clients that are behind another device do not come by this one.
    let away = departure
        .places
        .away(departure.interface, Family::of(departure.backend));
    let mut rest = clients.subtract(&away);
    if rest.is_empty() {
        rest = clients.clone();
    }
    let clients = rest.clone();
    let course = walk(slice, departure, &clients, budget);
    let mut found = Found {
        source: Source::Preserve,
        ports: None,
        origins: Vec::new(),
        remarks: course.passed.clone(),
    };
    let (hairpins, others): (Vec<&Decision>, Vec<&Decision>) = course
        .decisions
        .iter()
        .partition(|one| is_hairpin(one, departure.backend, &clients));
    for decision in &hairpins {
        found.origins.extend(decision.origins());
        found.remarks.extend(hairpin(decision, departure.backend));
    }
    for decision in &hairpins {
        rest = rest.subtract(&decision.clients);
    }
    let mut sources = Vec::new();
    for decision in &others {
        sources.push(source(decision).map_err(|why| (vec![decision.rule.origin], why))?);
        rest = rest.subtract(&decision.clients);
        found.origins.extend(decision.origins());
        found.remarks.extend(decision.assumed.clone());
        found.remarks.extend(flags(decision));
    }
    let Some(first) = sources.first() else {
        return Ok(found);
    };
    let origins = || others.iter().map(|one| one.rule.origin).collect();
    if sources.iter().any(|one| one.0 != first.0) {
        let why = "as whom it sends depends on the client, and a rule has one `source`";
        return Err((origins(), why.to_owned()));
    }
    (found.source, found.ports) = *first;
    if rest.is_empty() {
        return Ok(found);
    }
    // It takes some clients only. Where it is about clients and not about what is forwarded, one can tell what is
    // wanted: a server outside must see this host, and one inside the clients.
    if others.iter().any(|one| one.by_destination) {
        let why = "it takes some clients only, and a rule has one `source` for all";
        return Err((origins(), why.to_owned()));
    }
    let inside = is_private(departure.backend) || departure.backend.is_ipv6();
    let why = if inside {
        (found.source, found.ports) = (Source::Preserve, None);
        "backends of a `[[forward]]` see the addresses of these clients, as they see those of all others"
    } else {
        "whoever is forwarded to an address outside is translated so, not these clients only"
    };
    found
        .remarks
        .extend(others.iter().map(|one| (one.rule.origin, why.to_owned())));
    Ok(found)
}

/// Whether this is about clients in the backend's own subnet, for whom the forwarder does it without being told.
fn is_hairpin(decision: &Decision, backend: IpAddr, clients: &ClientSet) -> bool {
    matches!(decision.end, End::Nat(_))
        && home(decision, backend).is_some()
        && decision.clients != *clients
}

/// The prefix of clients that a decision is about which the backend is in.
fn home(decision: &Decision, backend: IpAddr) -> Option<IpNet> {
    let holding = decision.from.iter().filter(|one| one.contains(&backend));
    let longest = holding.max_by_key(|one| one.prefix_len())?;
    (longest.prefix_len() > 0).then_some(*longest)
}

fn hairpin(decision: &Decision, backend: IpAddr) -> Option<(OriginId, String)> {
    let prefix = home(decision, backend)?;
    let alone = prefix.prefix_len() == prefix.max_prefix_len();
    (!alone).then(|| {
        let what = format!(
            "done without a rule for clients in a backend's own subnet; \
             clients elsewhere in {prefix} are seen with their own addresses"
        );
        (decision.rule.origin, what)
    })
}

/// The source that a decision makes, and its ports.
pub(super) fn source(decision: &Decision) -> Result<(Source, Option<PortRange>), String> {
    match &decision.end {
        End::Unclear(reason) => Err(reason.clone()),
        End::Nat(Nat::Masquerade { ports, .. }) => Ok((Source::Masquerade, *ports)),
        End::Nat(Nat::Source {
            addresses, ports, ..
        }) => Ok((
            Source::Pool {
                first: addresses.first,
                last: addresses.last,
            },
            *ports,
        )),
        End::Nat(Nat::Destination(_) | Nat::Redirect { .. }) => {
            Err("it translates the destination of packets that leave".to_owned())
        }
    }
}
