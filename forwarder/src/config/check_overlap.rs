//! Two rules must not claim the same packet.
//!
//! Claims are compared only within one scope. A rule for `eth0` and one for any interface, or one for an
//! address and one for `*`, may share ports: the more specific one wins.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::errors::Diagnostic;
use super::model::Protocol;
use super::rule::RawRule;
use super::span::Origin;
use super::token::quoted;
use super::tree::Reader;

type Scope<'a> = (&'static str, Option<&'a str>, Option<IpAddr>);

/// Notes every listener that overlaps an earlier one. Each scope is sorted and swept, since comparing each
/// pair of 65,536 rules takes minutes.
pub(super) fn listeners(reader: &mut Reader, rules: &[RawRule], origin: &Origin) {
    let mut blamed = BTreeSet::new();
    for ((protocol, ..), mut members) in scopes(rules) {
        members.sort_by_key(|index| (first_port(&rules[*index]), *index));
        let mut widest: Option<usize> = None;
        for index in members {
            match widest {
                Some(before) if first_port(&rules[index]) <= last_port(&rules[before]) => {
                    // The later one in the file is the one that was added and is to be repaired.
                    blamed.insert((index.max(before), index.min(before), protocol));
                    if last_port(&rules[index]) > last_port(&rules[before]) {
                        widest = Some(index);
                    }
                }
                _ => widest = Some(index),
            }
        }
    }
    let mut last = None;
    for (later, earlier, protocol) in blamed {
        // Once for a rule, not once for each protocol and neighbour.
        if last.replace(later) != Some(later) {
            report(reader, origin, protocol, [&rules[later], &rules[earlier]]);
        }
    }
}

fn scopes(rules: &[RawRule]) -> HashMap<Scope<'_>, Vec<usize>> {
    let mut scopes: HashMap<Scope, Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let (Some(listen), Some(interface)) = (&rule.listen, &rule.interface) else {
            continue;
        };
        let interface = interface.as_ref().map(|name| name.value.as_str());
        for protocol in Protocol::ALL
            .into_iter()
            .filter(|protocol| rule.has(*protocol))
        {
            let scope = (protocol.name(), interface, listen.value.listen.address);
            scopes.entry(scope).or_default().push(index);
        }
    }
    scopes
}

fn first_port(rule: &RawRule) -> u16 {
    rule.listen
        .as_ref()
        .map_or(0, |listen| listen.value.listen.ports.first)
}

fn last_port(rule: &RawRule) -> u16 {
    rule.listen
        .as_ref()
        .map_or(0, |listen| listen.value.listen.ports.last)
}

fn report(reader: &mut Reader, origin: &Origin, protocol: &str, [later, earlier]: [&RawRule; 2]) {
    let (Some(later), Some(other)) = (&later.listen, &earlier.listen) else {
        return;
    };
    let whose = earlier.name.as_ref().map_or(String::new(), |name| {
        format!(" of rule {}", quoted(&name.value))
    });
    let message = format!(
        "listener {} overlaps {}{whose} for {protocol}: expected ports no other rule has",
        quoted(reader.source(later.span)),
        quoted(reader.source(other.span)),
    );
    let help = format!("the other one stands at {}", origin.place(other.span));
    reader.push(Diagnostic::whole(later.span, message).help(help));
}
