//! Two rules must not claim the same packet.
//!
//! Claims are compared only within one scope. A rule for `eth0` and one for any interface, or one for an
//! address and one for `*`, may share ports: the more specific one wins.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::errors::Diagnostic;
use super::masquerade::RawMasquerade;
use super::model::{PortRange, Protocol};
use super::output::RawOutput;
use super::rule::RawRule;
use super::span::{Located, Origin, Span};
use super::token::quoted;
use super::tree::Reader;

/// Ports of one scope, claimed by the thing with this index.
type Claim<S> = ((S, Protocol), PortRange, usize);

/// Notes every listener that overlaps an earlier one.
pub(super) fn listeners(reader: &mut Reader, rules: &[RawRule], origin: &Origin) {
    let mut claims = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let (Some(listen), Some(interface), Some(families)) =
            (&rule.listen, &rule.interface, rule.families())
        else {
            continue;
        };
        let listen = listen.value;
        let interface = interface.as_ref().map(|name| name.value.as_str());
        let families = [(families.v4, "IPv4"), (families.v6, "IPv6")];
        for (_, family) in families.into_iter().filter(|(served, _)| *served) {
            for protocol in Protocol::ALL.into_iter().filter(|one| rule.has(*one)) {
                let scope = (interface, listen.address, family);
                claims.push(((scope, protocol), listen.ports, index));
            }
        }
    }
    let place = |index: usize| {
        let rule: &RawRule = &rules[index];
        Some((rule.listen.as_ref()?.span, rule.name.as_ref()))
    };
    for (later, (earlier, protocol)) in overlaps(claims) {
        if let (Some(later), Some(earlier)) = (place(later), place(earlier)) {
            report(reader, origin, ("listener", protocol), [later, earlier]);
        }
    }
}

/// Notes every destination of an `[[output]]` that overlaps an earlier one.
pub(super) fn destinations(reader: &mut Reader, rules: &[RawOutput], origin: &Origin) {
    let mut claims = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let Some(destination) = &rule.destination else {
            continue;
        };
        let destination = destination.value;
        for protocol in Protocol::ALL.into_iter().filter(|one| rule.has(*one)) {
            let scope = (destination.address, protocol);
            claims.push((scope, destination.ports, index));
        }
    }
    let place = |index: usize| {
        let rule: &RawOutput = &rules[index];
        Some((rule.destination.as_ref()?.span, rule.name.as_ref()))
    };
    for (later, (earlier, protocol)) in overlaps(claims) {
        if let (Some(later), Some(earlier)) = (place(later), place(earlier)) {
            report(reader, origin, ("destination", protocol), [later, earlier]);
        }
    }
}

/// Notes every entry of a rule's `ports` that overlaps an earlier one.
pub(super) fn ports(reader: &mut Reader, rule: &RawMasquerade, origin: &Origin) {
    let ports = rule.ports.as_deref().unwrap_or_default();
    let claims = ports.iter().enumerate();
    let claims = claims.map(|(index, entry)| {
        let scope = ((), entry.value.protocol);
        (scope, entry.value.ports, index)
    });
    for (later, (earlier, _)) in overlaps(claims) {
        let (later, earlier) = (ports[later].span, ports[earlier].span);
        let message = format!(
            "ports {} overlap {}: expected each port once",
            quoted(reader.source(later)),
            quoted(reader.source(earlier)),
        );
        let help = format!("the other ones stand at {}", origin.place(earlier));
        reader.push(Diagnostic::whole(later, message).help(help));
    }
}

/// For each claim that overlaps an earlier one: that one, and in which protocol. Each scope is sorted and swept,
/// since comparing each pair of 65,536 rules takes minutes.
fn overlaps<S: Eq + Hash>(
    claims: impl IntoIterator<Item = Claim<S>>,
) -> BTreeMap<usize, (usize, Protocol)> {
    let mut scopes: HashMap<(S, Protocol), Vec<(PortRange, usize)>> = HashMap::new();
    for (scope, ports, index) in claims {
        scopes.entry(scope).or_default().push((ports, index));
    }
    let mut blamed = BTreeMap::new();
    for ((_, protocol), mut members) in scopes {
        members.sort_by_key(|(ports, index)| (ports.first, *index));
        let mut widest: Option<(PortRange, usize)> = None;
        for (ports, index) in members {
            match widest {
                Some((before, other)) if ports.first <= before.last => {
                    // The later one in the file is the one that was added and is to be repaired: once, not once
                    // for each protocol and neighbour.
                    let with = (index.min(other), protocol);
                    let noted = blamed.entry(index.max(other)).or_insert(with);
                    *noted = with.min(*noted);
                    if ports.last > before.last {
                        widest = Some((ports, index));
                    }
                }
                _ => widest = Some((ports, index)),
            }
        }
    }
    blamed
}

type Place<'a> = (Span, Option<&'a Located<String>>);

fn report(
    reader: &mut Reader,
    origin: &Origin,
    (what, protocol): (&str, Protocol),
    [(later, _), (earlier, name)]: [Place; 2],
) {
    let whose = name.map_or(String::new(), |name| {
        format!(" of rule {}", quoted(&name.value))
    });
    let message = format!(
        "{what} {} overlaps {}{whose} for {}: expected ports no other rule has",
        quoted(reader.source(later)),
        quoted(reader.source(earlier)),
        protocol.name(),
    );
    let help = format!("the other one stands at {}", origin.place(earlier));
    reader.push(Diagnostic::whole(later, message).help(help));
}
