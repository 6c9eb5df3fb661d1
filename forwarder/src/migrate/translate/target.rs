//! Where one translation sends a kind of packets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::PortRange;
use crate::migrate::ruleset::{Destination, Match, Nat};

use super::course::{Decision, End};
use super::outcome::{Kinds, Port, To};

/// As many backends as one listener gets.
const MOST_BACKENDS: usize = 256;

/// The target of a decision; `own` are this host's addresses.
///
/// # Errors
/// Why no rule can say it.
pub(super) fn target(decision: &Decision, kinds: Kinds, own: &[IpAddr]) -> Result<To, String> {
    let End::Nat(nat) = &decision.end else {
        return Err("it is unclear".to_owned());
    };
    match nat {
        Nat::Redirect { ports, .. } => {
            let port = match ports {
                None => Port::Same,
                Some(ports) => new_port(*ports, None, kinds.ports)?,
            };
            let here = kinds.destination.is_some_and(|one| own.contains(&one));
            match port {
                Port::Same if !here => Err(
                    "it takes what is for other hosts to the same port of this one, which `local:` cannot"
                        .to_owned(),
                ),
                Port::Single(port) if kinds.ports.first == port && kinds.ports.len() == 1 => Err(format!(
                    "it takes what is for other hosts to the same port of this one, which `local:{port}` cannot"
                )),
                port => Ok(To::Local(port)),
            }
        }
        Nat::Destination(to) => {
            let named = decision
                .rule
                .matches
                .iter()
                .any(|one| is_only(one, kinds.destination));
            destination(to, kinds, (own, named))
        }
        Nat::Source { .. } | Nat::Masquerade { .. } => {
            Err("it translates the source of packets that arrive".to_owned())
        }
    }
}

/// Whether a condition is on this destination alone.
fn is_only(condition: &Match, address: Option<IpAddr>) -> bool {
    let Match::Destination(list) = condition else {
        return false;
    };
    let alone = address.map(|address| vec![IpNet::from(address)]);
    !list.not && alone.is_some_and(|alone| alone == list.value)
}

/// `named`: whether the rule names the destination that packets have.
fn destination(
    to: &Destination,
    kinds: Kinds,
    (own, named): (&[IpAddr], bool),
) -> Result<To, String> {
    let port = match to.ports {
        None => Port::Same,
        Some(ports) => new_port(ports, to.base, kinds.ports)?,
    };
    let mut addresses = Vec::new();
    for range in &to.addresses {
        let left = MOST_BACKENDS - addresses.len();
        addresses.extend(range.list(left).ok_or_else(|| {
            format!("it sends to more than {MOST_BACKENDS} addresses, and a rule would list each")
        })?);
    }
    if addresses.is_empty() {
        addresses.extend(kinds.destination);
    }
    let Some(first) = addresses.first() else {
        return Err(
            "it changes the port of whatever address, and a rule needs an address to send to"
                .to_owned(),
        );
    };
    if first.is_loopback() {
        return Err(
            "it sends to the loopback address; `to = \"local:PORT\"` sends to a program that listens on all addresses"
                .to_owned(),
        );
    }
    // An address that a rule names as the one that packets are for, before and after, is most likely this host's own.
    let here = own.contains(first) || named && Some(*first) == kinds.destination;
    match (here, addresses.len()) {
        (true, 1) if port == Port::Single(kinds.ports.first) && kinds.ports.len() == 1 => {
            Ok(To::Local(Port::Same))
        }
        (true, 1) => Ok(To::Local(port)),
        _ => Ok(To::Backends(
            addresses.into_iter().map(|one| (one, port)).collect(),
        )),
    }
}

/// The port that `ports` of a target make of `from`, which is either inside of them or outside.
fn new_port(ports: PortRange, base: Option<u16>, from: PortRange) -> Result<Port, String> {
    match base {
        None if ports.len() == 1 => Ok(Port::Single(ports.first)),
        None if ports.contains(from.first) => Ok(Port::Same),
        None => Err(format!(
            "it takes any of the ports {ports}, and which one differs between kernels"
        )),
        Some(base) => {
            let last = u32::from(base) + ports.len() - 1;
            let fits = base <= from.first && u32::from(from.last) <= last;
            let shift = i32::from(ports.first) - i32::from(base);
            match shift {
                _ if !fits => Err(format!("its ports {ports} begin anew beyond port {last}")),
                0 => Ok(Port::Same),
                shift => Ok(Port::Shift(shift)),
            }
        }
    }
}
