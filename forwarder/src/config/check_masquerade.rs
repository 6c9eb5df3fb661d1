//! What only the whole file can tell about `[[masquerade]]`: families, ports, and prefixes of several rules.

use std::collections::HashMap;

use ipnet::IpNet;

use super::check_overlap;
use super::check_rule::{like, of_prefix, without_tcp};
use super::errors::Diagnostic;
use super::masquerade::RawMasquerade;
use super::model::Protocol;
use super::span::{Origin, Span};
use super::token::quoted;
use super::tree::Reader;

/// All checks of one rule; those on values that could not be read are left out.
pub(super) fn masquerade(reader: &mut Reader, rule: &RawMasquerade, origin: &Origin) {
    let pool = rule.source.as_ref();
    if let Some(pool) = pool.and_then(|source| source.value.address()) {
        for prefix in rule.from.iter().flatten() {
            like(reader, of_prefix(prefix), (pool, "source"));
        }
    }
    let ports = rule.ports.as_deref().unwrap_or_default();
    let mut protocols = ports.iter().map(|ports| ports.value.protocol);
    let without = !ports.is_empty() && protocols.all(|protocol| protocol != Protocol::Tcp);
    if let Some(Some(clamp)) = rule.mss_clamp.as_ref().filter(|_| without) {
        reader.push(without_tcp(clamp.span, "mss-clamp", "`ports`"));
    }
    check_overlap::ports(reader, rule, origin);
}

/// Who has a prefix already.
#[derive(Default)]
struct Taken<'a> {
    first: Option<Span>,
    by_interface: HashMap<Option<&'a str>, Span>,
}

/// Of two prefixes that a client is in the longer one wins; of two that are the same none would.
pub(super) fn prefixes(reader: &mut Reader, rules: &[RawMasquerade], origin: &Origin) {
    let mut taken: HashMap<IpNet, Taken> = HashMap::new();
    for rule in rules {
        let Some(interface) = &rule.interface else {
            continue;
        };
        let interface = interface.as_ref().map(|name| name.value.as_str());
        for prefix in rule.from.iter().flatten() {
            let taken = taken.entry(prefix.value).or_default();
            // A rule without an interface is on every one of them.
            let on_any = taken.by_interface.get(&None);
            let other = match interface {
                None => taken.first.as_ref(),
                Some(_) => taken.by_interface.get(&interface).or(on_any),
            };
            if let Some(other) = other {
                let message = format!(
                    "duplicate prefix {} on one interface: expected each in one rule",
                    quoted(reader.source(prefix.span))
                );
                let help = format!("the first one stands at {}", origin.place(*other));
                reader.push(Diagnostic::whole(prefix.span, message).help(help));
            } else {
                taken.first.get_or_insert(prefix.span);
                taken.by_interface.insert(interface, prefix.span);
            }
        }
    }
}
