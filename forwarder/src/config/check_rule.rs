//! What only the whole of a `[[forward]]` can tell: families, ports of both sides, and keys that need others.

use std::net::IpAddr;

use ipnet::IpNet;

use super::errors::Diagnostic;
use super::model::{PortRange, Protocol, Source};
use super::rule::RawRule;
use super::span::{Located, Span};
use super::targets::{RawPorts, RawTarget};
use super::token::quoted;
use super::tree::Reader;

/// All checks of one rule; those on values that could not be read are left out.
pub(super) fn forward(reader: &mut Reader, rule: &RawRule) {
    one_family(reader, rule);
    if let (Some(listen), Some(target)) = (&rule.listen, &rule.target) {
        let listen = listen.value.ports;
        for ports in target.ports() {
            equal_lengths(reader, ports, (listen, "the listener's"));
        }
        if let RawTarget::Local(ports) = target {
            another_port(reader, ports, listen);
        }
    }
    if let Some(RawTarget::Local(_)) = &rule.target {
        source_preserved(reader, rule);
    }
    if rule.protocols.is_some() && !rule.has(Protocol::Tcp) {
        let clamp = rule.mss_clamp.iter().flatten().map(|one| one.span);
        let reset = rule.reset_unknown.iter().filter(|reset| reset.value);
        for (key, span) in clamp
            .map(|span| ("mss-clamp", span))
            .chain(reset.map(|reset| ("reset-unknown", reset.span)))
        {
            reader.push(without_tcp(span, key, "`protocol`"));
        }
    }
}

/// `key` is about TCP, and the rule takes none; `place` would have said so.
pub(super) fn without_tcp(span: Span, key: &str, place: &str) -> Diagnostic {
    let message = format!("`{key}` in a rule without TCP: expected `tcp` in {place}");
    Diagnostic::whole(span, message).help(format!("take `{key}` out, or add `tcp`"))
}

/// The family of a rule is that of its listener, or of its first backend if it listens on `*`. A rule from `*` to a
/// local port serves both families, unless all clients it lets in are of one.
fn one_family(reader: &mut Reader, rule: &RawRule) {
    let listener = rule.listen.as_ref().and_then(|listen| {
        let address = listen.value.address?;
        Some((address, "listener"))
    });
    let family = match &rule.target {
        _ if listener.is_some() => listener,
        None => None,
        Some(RawTarget::Backends(backends)) => backends
            .first()
            .map(|backend| (backend.value.address, "first backend")),
        Some(RawTarget::Local(_)) => rule
            .families()
            .filter(|families| families.v4 != families.v6)
            .and_then(|_| {
                let first = rule.allow.as_ref()?.first()?;
                Some((first.value.addr(), "first prefix of `allow`"))
            }),
    };
    let Some(family) = family else { return };
    for (what, span, address) in addresses(rule) {
        like(reader, (what, span, address), family);
    }
}

/// Notes `address` unless it is of the family of the other one, which belongs to `whose`.
pub(super) fn like(
    reader: &mut Reader,
    (what, span, address): (&str, Span, IpAddr),
    (family, whose): (IpAddr, &str),
) {
    if address.is_ipv4() != family.is_ipv4() {
        let (is, expected) = (version(address), version(family));
        let text = quoted(reader.source(span));
        let message = format!("{what} {text} is {is}: expected {expected}, like the {whose}");
        reader.push(Diagnostic::whole(span, message));
    }
}

/// All addresses that must be of the rule's family, other than the listener's.
fn addresses(rule: &RawRule) -> impl Iterator<Item = (&'static str, Span, IpAddr)> + '_ {
    let backends = rule.target.iter().flat_map(RawTarget::backends);
    let backends = backends.map(|one| ("backend", one.span, one.value.address));
    let source = rule.source.iter().filter_map(|source| {
        let address = source.value.address()?;
        Some(("source", source.span, address))
    });
    let prefixes = rule.allow.iter().chain(&rule.deny).flatten().map(of_prefix);
    backends.chain(source).chain(prefixes)
}

/// A prefix for [`like`].
pub(super) fn of_prefix(prefix: &Located<IpNet>) -> (&'static str, Span, IpAddr) {
    ("prefix", prefix.span, prefix.value.addr())
}

fn version(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A range of a target's ports is as long as the range that is sent there, which belongs to `whose`.
pub(super) fn equal_lengths(
    reader: &mut Reader,
    ports: &RawPorts,
    (from, whose): (PortRange, &str),
) {
    let target = ports.range;
    if !ports.is_range || target.len() == from.len() {
        return;
    }
    let message = format!(
        "unequal ranges: the target's `{target}` has {} ports and {whose} `{from}` has {}: \
         expected as many, or one port",
        target.len(),
        from.len(),
    );
    let last = u32::from(target.first) + from.len() - 1;
    let help = if last <= 65535 {
        format!("did you mean `{}-{last}`?", target.first)
    } else {
        format!(
            "{} ports from {} on end beyond 65535",
            from.len(),
            target.first
        )
    };
    reader.push(Diagnostic::whole(ports.span, message).help(help));
}

/// A rule that sends every port to itself does nothing, and whoever wrote it meant something.
fn another_port(reader: &mut Reader, ports: &Located<RawPorts>, listen: PortRange) {
    if ports.value.range == listen {
        let message = format!(
            "target {} is the port it listens on: expected another one",
            quoted(reader.source(ports.span))
        );
        let help = "without a rule packets for this host go to the port they name";
        reader.push(Diagnostic::whole(ports.span, message).help(help));
    }
}

fn source_preserved(reader: &mut Reader, rule: &RawRule) {
    let Some(source) = &rule.source else { return };
    if source.value != Source::Preserve {
        let message = format!(
            "source {} of a rule to a local port: expected `preserve`",
            quoted(reader.source(source.span))
        );
        let help = "leave `source` out; the connection ends at this host, which sees the client";
        reader.push(Diagnostic::whole(source.span, message).help(help));
    }
}
