//! Connections that this host opens itself: the chain OUTPUT.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{PortRange, Protocol};
use crate::migrate::clients::ClientSet;
use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::ruleset::{Family, Hook, Match, Ruleset};

use super::arrival::{few, general, number, unclear, yes};
use super::course::{Budget, Facts, Holds};
use super::outcome::{Kinds, Port, To, settle};
use super::places::Places;
use super::slice::{Slice, have};
use super::walk::walk;

/// A rule for connections of this host.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub protocols: Vec<Protocol>,
    pub address: IpAddr,
    pub ports: PortRange,
    pub backend: (IpAddr, Port),
    pub origins: Vec<OriginId>,
    pub remarks: Vec<(OriginId, String)>,
}

/// Packets of this host's to one address, or (`None`) to one that no rule names.
struct Leaving<'a> {
    places: &'a Places,
    destination: Option<IpAddr>,
    protocol: Protocol,
    ports: PortRange,
}

impl Facts for Leaving<'_> {
    fn holds(&self, condition: &Match) -> Holds {
        match condition {
            Match::In(device) => unclear(&format!("-i {}", device.value.name)),
            Match::Out(device) if device.not => unclear(&format!("! -o {}", device.value.name)),
            Match::Out(device) => Holds::Assumed(format!(
                "iptables takes only what leaves by {}, an `[[output]]` what leaves by any configured interface",
                device.value.name
            )),
            Match::Source(_) => unclear("-s"),
            Match::Destination(list) | Match::OriginalDestination(list) => match self.destination {
                Some(address) => {
                    yes(list.holds(list.value.iter().any(|one| one.contains(&address))))
                }
                None if list.value.iter().any(|one| one.prefix_len() == 0) => yes(list.holds(true)),
                None if list.not || list.value.iter().any(|one| few(*one).is_none()) => {
                    Holds::Unclear("an `[[output]]` is for one address".to_owned())
                }
                None => Holds::No,
            },
            Match::Protocol(list) => yes(list.holds(list.value.contains(&number(self.protocol)))),
            Match::Ports(list) | Match::OriginalPorts(list) => {
                yes(list.holds(have(&list.value, self.ports)))
            }
            // What is for this host's own addresses does not leave by a device.
            Match::Local(local) => {
                let own = self
                    .destination
                    .is_some_and(|one| self.places.own.contains(&one));
                yes(own == *local)
            }
            Match::Translated(translated) => yes(!translated),
            other => general(other),
        }
    }
}

pub(super) fn find(
    ruleset: &Ruleset,
    places: &Places,
    budget: &Budget,
    journal: &mut Journal,
) -> Vec<Own> {
    let slice = Slice::new(&ruleset.nat, Hook::Output);
    let mut named = BTreeSet::new();
    for condition in slice.all().flat_map(|rule| &rule.matches) {
        if let Match::Destination(list) | Match::OriginalDestination(list) = condition {
            named.extend(list.value.iter().filter_map(|one| few(*one)).flatten());
        }
    }
    let mut all = Vec::new();
    for protocol in Protocol::ALL {
        for destination in named.iter().copied().map(Some).chain([None]) {
            let mut here = Vec::new();
            slice.divide(PortRange::ALL, &[], &mut |slice, ports| {
                let leaving = Leaving {
                    places,
                    destination,
                    protocol,
                    ports,
                };
                here.extend(one(slice, &leaving, (ruleset.family, budget), journal));
            });
            all.extend(joined(here));
        }
    }
    both_protocols(all)
}

fn one(
    slice: &Slice,
    leaving: &Leaving,
    (family, budget): (Family, &Budget),
    journal: &mut Journal,
) -> Option<Own> {
    let course = walk(slice, leaving, &ClientSet::everybody(family), budget);
    if course.decisions.is_empty() {
        return None;
    }
    let refuse = |journal: &mut Journal, why: &str| {
        for decision in &course.decisions {
            journal.note(Kind::Untranslated, decision.rule.origin, why);
        }
    };
    let by_destination = course.decisions.iter().all(|one| one.by_destination);
    let Some(address) = leaving.destination.filter(|_| by_destination) else {
        refuse(
            journal,
            "an `[[output]]` is for one address, and this names none",
        );
        return None;
    };
    let kinds = Kinds {
        ports: leaving.ports,
        destination: None,
    };
    // A port alone is changed at the address that it is for.
    let settled = match settle(
        &course,
        Kinds {
            destination: Some(address),
            ..kinds
        },
        &[],
        journal,
    ) {
        Ok(Some(settled)) => settled,
        Ok(None) | Err(()) => return None,
    };
    let backend = match settled.to {
        // What `settle` takes for this host is, seen from this host, the same other host.
        To::Local(port) if !is_redirect(&course) => (address, port),
        To::Local(_) => {
            refuse(
                journal,
                "connections of this host to itself do not leave by a device",
            );
            return None;
        }
        To::Backends(backends) => match backends.as_slice() {
            [one] => *one,
            _ => {
                refuse(journal, "an `[[output]]` has one backend");
                return None;
            }
        },
    };
    Some(Own {
        protocols: vec![leaving.protocol],
        address,
        ports: leaving.ports,
        backend,
        origins: settled.origins,
        remarks: settled.remarks,
    })
}

fn is_redirect(course: &super::course::Course) -> bool {
    use super::course::End;
    use crate::migrate::ruleset::Nat;
    course
        .decisions
        .iter()
        .any(|one| matches!(one.end, End::Nat(Nat::Redirect { .. })))
}

/// Neighbouring ports with one fate are one rule.
fn joined(found: Vec<Own>) -> Vec<Own> {
    let mut all: Vec<Own> = Vec::new();
    for own in found {
        match all.last_mut() {
            Some(last)
                if last.backend == own.backend
                    && last.ports.last.checked_add(1) == Some(own.ports.first) =>
            {
                last.ports.last = own.ports.last;
                last.origins.extend(own.origins);
                last.remarks.extend(own.remarks);
            }
            _ => all.push(own),
        }
    }
    all
}

fn both_protocols(found: Vec<Own>) -> Vec<Own> {
    let mut all: Vec<Own> = Vec::new();
    for own in found {
        let same = all.iter_mut().find(|one| {
            (one.address, one.ports, one.backend) == (own.address, own.ports, own.backend)
        });
        match same {
            Some(known) => {
                known.protocols.extend(own.protocols);
                known.origins.extend(own.origins);
                known.remarks.extend(own.remarks);
            }
            None => all.push(own),
        }
    }
    all
}
