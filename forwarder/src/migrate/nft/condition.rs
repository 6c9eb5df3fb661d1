//! Conditions of nft's rules.

use serde_json::Value;

use super::values;
use crate::migrate::ruleset::{Device, Family, Is, Match};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    In,
    Out,
    Source(Family),
    Destination(Family),
    Protocol,
    /// Of the protocol with this number.
    Ports(Option<u8>),
    SourcePorts(Option<u8>),
    Family,
    AddressType,
    State,
    Status,
    OriginalDestination,
    OriginalPorts,
    TcpFlags,
    /// Types of ICMP messages.
    Messages(Family),
    /// A number below this, different for every connection.
    Share(u64),
}

/// Conditions that hold together.
#[derive(Clone, Debug, Default)]
pub(super) struct All {
    pub matches: Vec<Match>,
    pub families: Vec<Family>,
}

/// What stands on the left of a comparison; `None` for what no configuration has.
pub(super) fn field(left: &Value) -> Option<Field> {
    let (name, inner) = left.as_object()?.iter().next()?;
    let text = |key: &str| inner.get(key).and_then(Value::as_str).unwrap_or_default();
    match name.as_str() {
        "meta" => match text("key") {
            "iifname" | "iif" => Some(Field::In),
            "oifname" | "oif" => Some(Field::Out),
            "l4proto" => Some(Field::Protocol),
            "nfproto" | "protocol" => Some(Field::Family),
            _ => None,
        },
        "payload" => payload(text("protocol"), text("field")),
        "ct" => match (text("key"), text("dir")) {
            ("state", "") => Some(Field::State),
            ("status", "") => Some(Field::Status),
            ("daddr" | "ip daddr" | "ip6 daddr", "original") => Some(Field::OriginalDestination),
            ("proto-dst", "original") => Some(Field::OriginalPorts),
            _ => None,
        },
        "fib" => {
            let flags = match inner.get("flags")? {
                Value::Array(flags) => flags.clone(),
                one => vec![one.clone()],
            };
            (text("result") == "type" && flags == ["daddr"]).then_some(Field::AddressType)
        }
        "numgen" => Some(Field::Share(inner.get("mod")?.as_u64()?)),
        // Only those that a packet has which opens a connection.
        "&" => {
            let sides = inner.as_array()?;
            (field(sides.first()?)? == Field::TcpFlags).then_some(Field::TcpFlags)
        }
        _ => None,
    }
}

fn payload(protocol: &str, name: &str) -> Option<Field> {
    let family = match protocol {
        "ip" => Some(Family::V4),
        "ip6" => Some(Family::V6),
        _ => None,
    };
    match (protocol, name) {
        ("icmp", "type") => return Some(Field::Messages(Family::V4)),
        ("icmpv6", "type") => return Some(Field::Messages(Family::V6)),
        _ => {}
    }
    let number = match protocol {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        "dccp" => Some(33),
        "udplite" => Some(136),
        "th" | "ip" | "ip6" => None,
        _ => return None,
    };
    match (name, family) {
        ("saddr", Some(family)) => Some(Field::Source(family)),
        ("daddr", Some(family)) => Some(Field::Destination(family)),
        ("protocol" | "nexthdr", Some(_)) => Some(Field::Protocol),
        ("dport", None) => Some(Field::Ports(number)),
        ("sport", None) => Some(Field::SourcePorts(number)),
        ("flags", None) if number == Some(6) => Some(Field::TcpFlags),
        _ => None,
    }
}

/// What `FIELD OP ELEMENTS` says; `None` for what cannot be read or said.
pub(super) fn read(field: Field, op: &str, elements: &[Value]) -> Option<All> {
    let not = match op {
        "==" | "in" => false,
        "!=" => true,
        // A bit that is not set: `ct status ! dnat`.
        "!" if field == Field::Status => true,
        _ => return compared(field, op, elements),
    };
    let mut all = All::default();
    let texts: Vec<&str> = elements.iter().filter_map(Value::as_str).collect();
    match field {
        Field::In => all.matches.push(device(not, &texts, elements, Match::In)?),
        Field::Out => all.matches.push(device(not, &texts, elements, Match::Out)?),
        Field::Source(family) => {
            all.families.push(family);
            all.matches
                .push(Match::Source(Is::new(not, prefixes(elements)?)));
        }
        Field::Destination(family) => {
            all.families.push(family);
            all.matches
                .push(Match::Destination(Is::new(not, prefixes(elements)?)));
        }
        Field::OriginalDestination => {
            let prefixes = prefixes(elements)?;
            all.families
                .extend(prefixes.first().map(|one| Family::of(one.addr())));
            all.matches
                .push(Match::OriginalDestination(Is::new(not, prefixes)));
        }
        Field::Protocol => {
            let numbers: Option<Vec<u8>> = elements.iter().map(protocol).collect();
            all.matches.push(Match::Protocol(Is::new(not, numbers?)));
        }
        Field::Ports(number) => {
            all.matches.extend(of_protocol(number));
            all.matches
                .push(Match::Ports(Is::new(not, ports(elements)?)));
        }
        Field::SourcePorts(number) => {
            all.matches.extend(of_protocol(number));
            all.matches
                .push(Match::SourcePorts(Is::new(not, ports(elements)?)));
        }
        Field::OriginalPorts => all
            .matches
            .push(Match::OriginalPorts(Is::new(not, ports(elements)?))),
        Field::Family if !not => all.families.push(match texts.as_slice() {
            ["ipv4" | "ip"] => Family::V4,
            ["ipv6" | "ip6"] => Family::V6,
            _ => return None,
        }),
        Field::AddressType if texts == ["local"] => all.matches.push(Match::Local(!not)),
        Field::State => all.matches.extend(state(not, &texts)?),
        Field::Status if texts == ["dnat"] && op != "!=" => {
            all.matches.push(Match::Translated(!not));
        }
        Field::TcpFlags if !not && texts == ["syn"] => all.matches.extend(of_protocol(Some(6))),
        // The only message that opens a connection which a configuration has.
        Field::Messages(family) if !not && texts == ["echo-request"] => {
            all.families.push(family);
            let number = match family {
                Family::V4 => 1,
                Family::V6 => 58,
            };
            all.matches.extend(of_protocol(Some(number)));
        }
        Field::Family
        | Field::AddressType
        | Field::Status
        | Field::TcpFlags
        | Field::Messages(_)
        | Field::Share(_) => return None,
    }
    Some(all)
}

fn compared(field: Field, op: &str, elements: &[Value]) -> Option<All> {
    let [one] = elements else { return None };
    let mut all = All::default();
    match field {
        Field::Share(of) if op == "<" && of > 0 => {
            let part = one.as_u64()? as f64 / of as f64;
            all.matches.push(Match::Share(part.min(1.0)));
        }
        Field::Ports(number) => {
            all.matches.extend(of_protocol(number));
            let ports = values::compared(op, values::number(one)?)?;
            all.matches.push(Match::Ports(Is::new(false, ports)));
        }
        _ => return None,
    }
    Some(all)
}

fn of_protocol(number: Option<u8>) -> Option<Match> {
    number.map(|number| Match::Protocol(Is::new(false, vec![number])))
}

/// One device; several are alternatives, which whoever calls makes of them.
fn device(
    not: bool,
    texts: &[&str],
    elements: &[Value],
    make: fn(Is<Device>) -> Match,
) -> Option<Match> {
    match texts {
        [name] if elements.len() == 1 => Some(make(Is::new(not, Device::parse(name, '*')))),
        _ => None,
    }
}

fn prefixes(elements: &[Value]) -> Option<Vec<ipnet::IpNet>> {
    let lists: Option<Vec<_>> = elements.iter().map(values::prefixes).collect();
    Some(lists?.concat())
}

fn ports(elements: &[Value]) -> Option<Vec<crate::config::PortRange>> {
    let all: Option<Vec<_>> = elements.iter().map(values::ports).collect();
    Some(all?.into_iter().flatten().collect())
}

fn protocol(value: &Value) -> Option<u8> {
    match value.as_str() {
        Some("tcp") => Some(6),
        Some("udp") => Some(17),
        Some("icmp") => Some(1),
        Some("ipv6-icmp" | "icmpv6") => Some(58),
        Some("sctp") => Some(132),
        Some("dccp") => Some(33),
        Some("udplite") => Some(136),
        Some("esp") => Some(50),
        Some("ah") => Some(51),
        Some("gre") => Some(47),
        Some(text) => text.parse().ok(),
        None => value.as_u64()?.try_into().ok(),
    }
}

/// Only packets that open a connection come to a chain of type `nat`.
fn state(not: bool, texts: &[&str]) -> Option<Option<Match>> {
    let existing = ["established", "related", "invalid"];
    let about_existing = match (
        texts.contains(&"new"),
        texts.iter().all(|one| existing.contains(one)),
    ) {
        (true, _) => not,
        (false, true) => !not,
        (false, false) => return None,
    };
    let why = "it is about connections that exist already";
    Some(about_existing.then(|| Match::Never(why.to_owned())))
}
