//! What only the whole file can tell: names, families, ports of both sides, and the sum of it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::check_overlap;
use super::errors::Diagnostic;
use super::model::Source;
use super::raw::RawConfig;
use super::rule::RawRule;
use super::span::{Located, Origin, Span};
use super::suggest::{did_you_mean, one_of};
use super::token::quoted;
use super::tree::Reader;
use super::unsupported;

pub(super) const MINIMAL: &str = "\
[[interface]]
name = \"eth0\"

[[forward]]
listen = \"*:110\"
to = \"192.0.2.1:110\"
source = \"masquerade\"";

/// All checks; those on values that could not be read are left out.
pub(super) fn whole_file(reader: &mut Reader, raw: &RawConfig, origin: &Origin) {
    if !raw.mentions.anything {
        let message =
            "the file is empty: expected at least one `[[interface]]` and one `[[forward]]`";
        reader.push(
            Diagnostic::whole(Span::default(), message)
                .help("a minimal one is")
                .note(MINIMAL),
        );
        return;
    }
    presence(reader, raw);
    let interfaces = raw
        .interfaces
        .iter()
        .filter_map(|interface| interface.name.as_ref());
    unique(reader, origin, "interface", interfaces);
    unique(
        reader,
        origin,
        "rule",
        raw.rules.iter().filter_map(|rule| rule.name.as_ref()),
    );
    for rule in &raw.rules {
        known_interface(reader, raw, rule);
        one_family(reader, rule);
        equal_lengths(reader, rule);
    }
    check_overlap::listeners(reader, &raw.rules, origin);
    total(reader, raw);
}

fn presence(reader: &mut Reader, raw: &RawConfig) {
    let mut missing = |there: bool, what: &str, help: &str| {
        if !there {
            let message = format!("no `{what}`: expected at least one");
            reader.push(Diagnostic::whole(Span::default(), message).help(help));
        }
    };
    missing(
        raw.mentions.interface,
        "[[interface]]",
        "name the device on which packets arrive",
    );
    missing(
        raw.mentions.rules,
        "[[forward]]",
        "say what to listen on and where to send it",
    );
}

fn unique<'a>(
    reader: &mut Reader,
    origin: &Origin,
    what: &str,
    names: impl Iterator<Item = &'a Located<String>>,
) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in names {
        if let Some(first) = seen.get(name.value.as_str()) {
            let message = format!(
                "duplicate {what} name {}: expected each once",
                quoted(&name.value)
            );
            let help = format!("the first one stands at {}", origin.place(*first));
            reader.push(Diagnostic::whole(name.span, message).help(help));
        } else {
            seen.insert(&name.value, name.span);
        }
    }
}

fn known_interface(reader: &mut Reader, raw: &RawConfig, rule: &RawRule) {
    let Some(Some(name)) = &rule.interface else {
        return;
    };
    let known = raw
        .interfaces
        .iter()
        .filter_map(|interface| interface.name.as_ref());
    let known: Vec<&str> = known.map(|name| name.value.as_str()).collect();
    // Without a readable name the problem is noted there.
    if known.is_empty() || known.contains(&name.value.as_str()) {
        return;
    }
    let message = format!(
        "interface {} is not configured: expected {}",
        quoted(&name.value),
        one_of(&known)
    );
    let add = || "add an `[[interface]]` with this name".to_owned();
    let help = did_you_mean(&name.value, known.iter().copied()).unwrap_or_else(add);
    reader.push(Diagnostic::whole(name.span, message).help(help));
}

/// The family of a rule is that of its listener, or of its first backend if it listens on `*`.
fn one_family(reader: &mut Reader, rule: &RawRule) {
    let listener = rule.listen.as_ref().map(|listen| &listen.value);
    let listener = listener.and_then(|listen| Some((listen.address, listen.listen.address?)));
    let backends: Vec<_> = rule
        .backends
        .iter()
        .flatten()
        .map(|one| (one.span, one.value.address))
        .collect();
    let Some((_, family)) = listener.or(backends.first().copied()) else {
        return;
    };

    let refusals = listener
        .iter()
        .chain(&backends)
        .filter(|(_, address)| address.is_ipv6() == family.is_ipv6());
    let refusals = refusals
        .filter_map(|(span, address)| unsupported::address(*span, reader.source(*span), *address));
    let refusals: Vec<_> = refusals.collect();
    if !refusals.is_empty() {
        // The rest of the rule need not follow a family it cannot have.
        refusals
            .into_iter()
            .for_each(|refusal| reader.push(refusal));
        return;
    }
    let whose = if listener.is_some() {
        "listener"
    } else {
        "first backend"
    };
    for (what, span, address) in addresses(rule, &backends) {
        if address.is_ipv4() != family.is_ipv4() {
            let (is, expected) = (version(address), version(family));
            let text = quoted(reader.source(span));
            let message = format!("{what} {text} is {is}: expected {expected}, like the {whose}");
            reader.push(Diagnostic::whole(span, message));
        }
    }
}

/// All addresses that must be of the rule's family.
fn addresses<'a>(
    rule: &'a RawRule,
    backends: &'a [(Span, IpAddr)],
) -> impl Iterator<Item = (&'static str, Span, IpAddr)> + 'a {
    let backends = backends
        .iter()
        .map(|(span, address)| ("backend", *span, *address));
    let source = rule.source.iter().filter_map(|source| match source.value {
        Source::Pool { first, .. } => Some(("source", source.span, first)),
        Source::Preserve | Source::Masquerade => None,
    });
    let prefixes = rule.allow.iter().chain(&rule.deny).flatten();
    backends
        .chain(source)
        .chain(prefixes.map(|prefix| ("prefix", prefix.span, prefix.value.addr())))
}

fn version(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn equal_lengths(reader: &mut Reader, rule: &RawRule) {
    let Some(listen) = &rule.listen else { return };
    let listen = listen.value.listen.ports;
    let ranges = rule
        .backends
        .iter()
        .flatten()
        .filter(|backend| backend.value.is_range);
    for ports in ranges.filter_map(|backend| backend.value.ports.as_ref()) {
        let target = ports.value;
        if target.len() == listen.len() {
            continue;
        }
        let message = format!(
            "unequal ranges: the target's `{target}` has {} ports and the listener's `{listen}` has {}: \
             expected as many, or one port",
            target.len(),
            listen.len(),
        );
        let last = u32::from(target.first) + listen.len() - 1;
        let fitting = (last <= 65535).then(|| format!("did you mean `{}-{last}`?", target.first));
        let beyond = || {
            format!(
                "{} ports from {} on end beyond 65535",
                listen.len(),
                target.first
            )
        };
        reader.push(Diagnostic::whole(ports.span, message).help(fitting.unwrap_or_else(beyond)));
    }
}

/// The rule table has one place per rule, protocol and backend.
fn total(reader: &mut Reader, raw: &RawConfig) {
    let places = |rule: &RawRule| {
        let protocols = rule.protocols.as_ref().map_or(1, Vec::len);
        protocols * rule.backends.as_ref().map_or(1, Vec::len)
    };
    let needed: usize = raw.rules.iter().map(places).sum();
    let limit = raw.settings.limits.rules;
    if needed <= limit as usize {
        return;
    }
    let mut so_far = 0;
    let crossing = raw.rules.iter().find(|rule| {
        so_far += places(rule);
        so_far > limit as usize
    });
    let span = raw
        .settings
        .rules_limit
        .or(crossing.map(|rule| rule.header))
        .unwrap_or_default();
    let message = format!(
        "`limits.rules` is `{limit}`, but rules times protocols times backends are {needed}: expected at most `{limit}`"
    );
    reader.push(Diagnostic::whole(span, message).help("raise the limit, or split the rules"));
}
