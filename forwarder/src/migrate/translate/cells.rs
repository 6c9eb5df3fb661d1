//! What becomes of every kind of packets that arrive: by protocol, address, ports and device.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

use crate::config::{PortRange, Protocol, Source};
use crate::migrate::clients::ClientSet;
use crate::migrate::journal::{Journal, OriginId};
use crate::migrate::ruleset::{Action, Family, Hook, Match, Nat, Ruleset};

use super::arrival::{Arrival, number};
use super::concerns::Concerns;
use super::course::Budget;
use super::outcome::{Forward, Kinds, Outcome, Settled, To, settle};
use super::places::Places;
use super::slice::Slice;
use super::source::{self, Departure};
use super::walk::walk;

/// Packets to some ports, and what becomes of them by device: first those that no rule names, then one for each of
/// [`Places::interfaces`].
#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub ports: PortRange,
    pub row: Vec<Outcome>,
}

/// What the cells of a ruleset are made from.
pub(super) struct Field<'a> {
    pub places: &'a Places,
    pub budget: &'a Budget,
    family: Family,
    arrivals: Slice<'a>,
    departures: Slice<'a>,
    by_backend: RefCell<BTreeMap<(Protocol, IpAddr), Rc<Slice<'a>>>>,
    concerns: Concerns,
    named: BTreeSet<IpAddr>,
    /// Ports at which a rule for packets that leave begins, as packets arrive.
    edges: Vec<u16>,
}

/// Rules that decided something, to find those that never do.
pub(super) type Met = BTreeSet<OriginId>;

impl<'a> Field<'a> {
    pub fn new(ruleset: &'a Ruleset, places: &'a Places, budget: &'a Budget) -> Self {
        let arrivals = Slice::new(&ruleset.nat, Hook::Prerouting);
        let departures = Slice::new(&ruleset.nat, Hook::Postrouting);
        let mut concerns = Concerns::of(&arrivals, &departures);
        if !concerns.by_local.is_empty() {
            let own = places.own.iter().copied();
            for address in own.filter(|one| Family::of(*one) == ruleset.family) {
                concerns.by_address.entry(address).or_default();
            }
        }
        Self {
            edges: edges(&arrivals, &departures),
            places,
            budget,
            family: ruleset.family,
            named: concerns.by_address.keys().copied().collect(),
            concerns,
            arrivals,
            departures,
            by_backend: RefCell::default(),
        }
    }

    /// The addresses that rules tell apart.
    pub fn named(&self) -> &BTreeSet<IpAddr> {
        &self.named
    }

    /// All packets of a protocol to `destination` that some rule treats otherwise than those to whatever address is not
    /// named, or (`None`) all packets to such an address; in the order of their ports and divided at the sorted `edges`
    /// at least.
    pub fn cells(
        &self,
        (protocol, destination): (Protocol, Option<IpAddr>),
        edges: &[u16],
        met: &mut Met,
        journal: &mut Journal,
    ) -> Vec<Cell> {
        let slice = self.arrivals.filter(|condition| match condition {
            Match::Protocol(list) => list.holds(list.value.contains(&number(protocol))),
            Match::Destination(list) | Match::OriginalDestination(list) => match destination {
                Some(address) => list.holds(list.value.iter().any(|one| one.contains(&address))),
                None => true,
            },
            _ => true,
        });
        let mut all_edges = self.edges.clone();
        all_edges.extend(edges);
        all_edges.sort_unstable();
        let ranges = match destination {
            Some(address) => self.concerns.ports(address),
            None => vec![PortRange::ALL],
        };
        let mut cells = Vec::new();
        for range in ranges {
            slice
                .within(range)
                .divide(range, &all_edges, &mut |slice, ports| {
                    let mut arrival = Arrival {
                        places: self.places,
                        family: self.family,
                        interface: None,
                        destination,
                        named: &self.named,
                        protocol,
                        ports,
                    };
                    let mut row = vec![self.outcome(slice, &arrival, met, journal)];
                    for name in &self.places.interfaces {
                        arrival.interface = Some(name);
                        row.push(self.outcome(slice, &arrival, met, journal));
                    }
                    cells.push(Cell { ports, row });
                });
        }
        cells
    }

    /// What packets to a backend can meet when they leave.
    fn departures(&self, protocol: Protocol, backend: IpAddr) -> Rc<Slice<'a>> {
        let mut known = self.by_backend.borrow_mut();
        let slice = known.entry((protocol, backend)).or_insert_with(|| {
            Rc::new(self.departures.filter(|condition| match condition {
                Match::Protocol(list) => list.holds(list.value.contains(&number(protocol))),
                Match::Destination(list) => {
                    list.holds(list.value.iter().any(|one| one.contains(&backend)))
                }
                _ => true,
            }))
        });
        Rc::clone(slice)
    }

    fn outcome(
        &self,
        slice: &Slice,
        arrival: &Arrival,
        met: &mut Met,
        journal: &mut Journal,
    ) -> Outcome {
        let everybody = ClientSet::everybody(self.family);
        let course = walk(slice, arrival, &everybody, self.budget);
        met.extend(course.decisions.iter().map(|one| one.rule.origin));
        met.extend(&course.spared);
        for (origin, word) in &course.aside {
            super::leftovers::aside(journal, *origin, word);
        }
        let kinds = Kinds {
            ports: arrival.ports,
            destination: arrival.destination,
        };
        let mut settled = match settle(&course, kinds, &self.places.own, journal) {
            Ok(Some(settled)) => settled,
            Ok(None) => return Outcome::Pass,
            Err(()) => return Outcome::Stuck,
        };
        settled.remarks.extend(course.passed);
        self.with_source(settled, arrival, journal)
    }

    /// Asks the rules for packets that leave about each backend.
    fn with_source(&self, settled: Settled, arrival: &Arrival, journal: &mut Journal) -> Outcome {
        let mut forward = Forward {
            to: settled.to,
            source: Source::Preserve,
            clients: settled.clients,
            origins: settled.origins,
            rule: settled.rule,
            remarks: settled.remarks,
            source_ports: None,
        };
        let To::Backends(backends) = forward.to.clone() else {
            return Outcome::Forward(Box::new(forward));
        };
        let mut first = None;
        for (backend, port) in backends {
            let departure = Departure {
                places: self.places,
                protocol: arrival.protocol,
                backend,
                ports: port.of(arrival.ports),
                destination: arrival.destination,
                listen: arrival.ports,
                interface: arrival.interface,
            };
            let departures = self.departures(arrival.protocol, backend);
            let found = source::find(&departures, &departure, &forward.clients, self.budget);
            let found = found.and_then(|found| match &first {
                Some(source) if *source != found.source => {
                    let why =
                        "as whom it sends depends on the backend, and a rule has one `source`";
                    Err((found.origins, why.to_owned()))
                }
                _ => Ok(found),
            });
            let found = match found {
                Ok(found) => found,
                Err((origins, why)) => {
                    super::leftovers::stuck_source(journal, &forward.origins, &origins, &why);
                    return Outcome::Stuck;
                }
            };
            first = Some(found.source);
            forward.source = found.source;
            forward.source_ports = forward.source_ports.or(found.ports);
            forward.origins.extend(found.origins);
            forward.remarks.extend(found.remarks);
        }
        Outcome::Forward(Box::new(forward))
    }
}

/// Where rules for packets that leave begin and end, in the ports that packets arrive for.
fn edges(arrivals: &Slice, departures: &Slice) -> Vec<u16> {
    let mut edges = BTreeSet::new();
    for condition in departures.all().flat_map(|rule| &rule.matches) {
        if let Match::Ports(list) | Match::OriginalPorts(list) = condition {
            for range in &list.value {
                edges.insert(range.first);
                edges.extend(range.last.checked_add(1));
            }
        }
    }
    let mut all = edges.clone();
    for rule in arrivals.all() {
        let Action::Nat(Nat::Destination(to)) = &rule.action else {
            continue;
        };
        if let (Some(ports), Some(base)) = (to.ports, to.base) {
            let moved = edges.range(ports.first..=ports.last);
            all.extend(moved.filter_map(|edge| (edge - ports.first).checked_add(base)));
        }
    }
    all.into_iter().collect()
}
