//! As few listeners as say the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::listeners::Listener;
use super::outcome::Forward;

/// Neighbouring ports with one fate are one listener.
pub(super) fn joined(mut listeners: Vec<Listener>) -> Vec<Listener> {
    listeners.sort_by(|a, b| {
        let key = |one: &Listener| {
            (
                one.listen.address,
                one.interface.clone(),
                one.listen.ports.first,
            )
        };
        key(a).cmp(&key(b))
    });
    let mut all: Vec<Listener> = Vec::new();
    for listener in listeners {
        match all.last_mut() {
            Some(last) if continues(last, &listener) => {
                last.listen.ports.last = listener.listen.ports.last;
                absorb(&mut last.forward, listener.forward);
            }
            _ => all.push(listener),
        }
    }
    all
}

fn continues(last: &Listener, next: &Listener) -> bool {
    (last.listen.address, &last.interface) == (next.listen.address, &next.interface)
        && last.listen.ports.last.checked_add(1) == Some(next.listen.ports.first)
        && last.forward == next.forward
}

/// The same rule for TCP and for UDP is one rule.
pub(super) fn both_protocols(listeners: Vec<Listener>) -> Vec<Listener> {
    let mut all: Vec<Listener> = Vec::new();
    let mut known: BTreeMap<(Option<IpAddr>, Option<String>, u16, u16), usize> = BTreeMap::new();
    for listener in listeners {
        let ports = listener.listen.ports;
        let key = (
            listener.listen.address,
            listener.interface.clone(),
            ports.first,
            ports.last,
        );
        match known.get(&key) {
            Some(&at) if all[at].forward == listener.forward => {
                all[at].protocols.extend(listener.protocols);
                absorb(&mut all[at].forward, listener.forward);
            }
            _ => {
                known.insert(key, all.len());
                all.push(listener);
            }
        }
    }
    all
}

pub(super) fn absorb(forward: &mut Forward, other: Forward) {
    forward.origins.extend(other.origins);
    forward.remarks.extend(other.remarks);
    forward.source_ports = forward.source_ports.or(other.source_ports);
}
