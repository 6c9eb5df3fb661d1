//! Conditions of iptables' rules.

use ipnet::IpNet;

use super::values;
use crate::migrate::ruleset::{Device, Is, Match};

/// What an option with a value comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Match(Match),
    /// It holds for everything that opens a flow.
    Always,
    /// The value cannot be read.
    Bad,
    /// No configuration has it.
    Unknown,
}

impl Read {
    fn of(found: Option<Match>) -> Self {
        found.map_or(Self::Bad, Self::Match)
    }
}

/// Whether `name` is a condition whoever it stands behind.
pub(super) fn is_known(name: &str) -> bool {
    name == "--comment"
        || name == "--syn"
        || name == "--tcp-flags"
        || read(name, false, "") != Read::Unknown
}

/// Reads the option `name` with its `value`.
pub(super) fn read(name: &str, not: bool, value: &str) -> Read {
    let device = || Is::new(not, Device::parse(value, '+'));
    let ports = || Some(Is::new(not, values::ports(value)?));
    let prefixes = |found: Option<Vec<IpNet>>| Some(Is::new(not, found?));
    match name {
        "-p" | "--protocol" | "--proto" | "--ctproto" => protocol(not, value),
        "-s" | "--source" | "--src" | "--ctorigsrc" => {
            Read::of(prefixes(values::prefixes(value)).map(Match::Source))
        }
        "-d" | "--destination" | "--dst" => {
            Read::of(prefixes(values::prefixes(value)).map(Match::Destination))
        }
        "--src-range" => Read::of(prefixes(values::address_range(value)).map(Match::Source)),
        "--dst-range" => Read::of(prefixes(values::address_range(value)).map(Match::Destination)),
        "-i" | "--in-interface" => Read::Match(Match::In(device())),
        "-o" | "--out-interface" => Read::Match(Match::Out(device())),
        "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
            Read::of(ports().map(Match::Ports))
        }
        "--sport" | "--source-port" | "--sports" | "--source-ports" => {
            Read::of(ports().map(Match::SourcePorts))
        }
        "--ctorigdst" => {
            Read::of(prefixes(values::prefixes(value)).map(Match::OriginalDestination))
        }
        "--ctorigdstport" => Read::of(ports().map(Match::OriginalPorts)),
        "--ctstate" | "--state" => state(not, value),
        "--ctdir" if value.eq_ignore_ascii_case("original") && !not => Read::Always,
        "--dst-type" => destination_type(not, value),
        "--pol" => policy(not, value),
        _ => Read::Unknown,
    }
}

fn protocol(not: bool, value: &str) -> Read {
    match values::protocol(value) {
        Some(numbers) if numbers.is_empty() && !not => Read::Always,
        found => Read::of(found.map(|numbers| Match::Protocol(Is::new(not, numbers)))),
    }
}

/// Only packets that open a connection come to the table `nat`, and to a rule of the forwarder's.
fn state(not: bool, value: &str) -> Read {
    let states: Vec<&str> = value.split(',').collect();
    let has = |state: &str| states.iter().any(|one| one.eq_ignore_ascii_case(state));
    let existing = ["ESTABLISHED", "RELATED", "INVALID"];
    let only_existing = states
        .iter()
        .all(|one| existing.iter().any(|state| one.eq_ignore_ascii_case(state)));
    match not {
        false if has("NEW") => Read::Always,
        true if has("NEW") => never("it is about connections that exist already"),
        true if only_existing => Read::Always,
        false if only_existing => never("it is about connections that exist already"),
        _ if states.len() == 1 && has("DNAT") => Read::Match(Match::Translated(!not)),
        _ => Read::Unknown,
    }
}

fn destination_type(not: bool, value: &str) -> Read {
    match value.to_ascii_uppercase().as_str() {
        "LOCAL" => Read::Match(Match::Local(!not)),
        "BROADCAST" | "MULTICAST" | "ANYCAST" if !not => {
            never("packets to such addresses are left to the kernel")
        }
        "BROADCAST" | "MULTICAST" | "ANYCAST" => Read::Always,
        _ => Read::Unknown,
    }
}

fn policy(not: bool, value: &str) -> Read {
    match (value, not) {
        ("none", false) | ("ipsec", true) => Read::Always,
        ("ipsec", false) | ("none", true) => {
            never("it is about IPsec, through which no forwarded packet goes")
        }
        _ => Read::Bad,
    }
}

fn never(why: &str) -> Read {
    Read::Match(Match::Never(why.to_owned()))
}

/// The share of connections that `statistic` with these options takes.
pub(super) fn share(not: bool, [mode, probability, every]: [Option<&str>; 3]) -> Option<Match> {
    let part = match mode? {
        "random" => probability?.parse::<f64>().ok()?,
        "nth" => 1.0 / f64::from(every?.parse::<u32>().ok().filter(|every| *every > 0)?),
        _ => return None,
    };
    let part = if not { 1.0 - part } else { part };
    (0.0..=1.0).contains(&part).then_some(Match::Share(part))
}
