//! Translations of nft's.

use serde_json::{Map, Value};

use super::condition::All;
use super::rule::Reader;
use super::values;
use crate::config::PortRange;
use crate::migrate::ruleset::{Addresses, Destination, Family, Nat};

/// Where to: an address, a port, both.
#[derive(Clone, Debug, Default)]
struct To {
    addresses: Vec<Addresses>,
    ports: Option<PortRange>,
}

/// Reads a translation, as alternatives if it looks something up; `None` for what no configuration has.
pub(super) fn read(reader: &Reader, name: &str, inner: &Value) -> Option<Vec<(All, Nat)>> {
    let empty = Map::new();
    let object = match inner {
        Value::Null => &empty,
        inner => inner.as_object()?,
    };
    let known = ["addr", "port", "family", "flags", "type_flags"];
    if object.keys().any(|key| !known.contains(&key.as_str())) {
        return None;
    }
    let flags = flags(object.get("flags"))?;
    // Prefix to prefix, address by address, has no equivalent; an interval is what an address may be anyhow.
    let kinds = words(object.get("type_flags"))?;
    if kinds.contains(&"prefix") {
        return None;
    }
    let family = match object.get("family").and_then(Value::as_str) {
        None => None,
        Some("ip") => Some(Family::V4),
        Some("ip6") => Some(Family::V6),
        Some(_) => return None,
    };
    let targets = targets(reader, object)?;
    let made: Option<Vec<(All, Nat)>> = targets
        .into_iter()
        .map(|(mut all, to)| {
            all.families.extend(family);
            all.families
                .extend(to.addresses.first().map(|one| Family::of(one.first)));
            Some((all, make(name, to, flags.clone())?))
        })
        .collect();
    made
}

fn make(name: &str, to: To, flags: Vec<String>) -> Option<Nat> {
    Some(match (name, to.addresses.as_slice()) {
        ("dnat", _) => Nat::Destination(Destination {
            addresses: to.addresses,
            ports: to.ports,
            base: None,
            flags,
        }),
        ("snat", [addresses]) => Nat::Source {
            addresses: *addresses,
            ports: to.ports,
            flags,
        },
        ("redirect", []) => Nat::Redirect {
            ports: to.ports,
            flags,
        },
        ("masquerade", []) => Nat::Masquerade {
            ports: to.ports,
            flags,
        },
        _ => return None,
    })
}

/// As iptables calls them, whose words the findings use.
fn flags(value: Option<&Value>) -> Option<Vec<String>> {
    let flags: Option<Vec<String>> = words(value)?
        .into_iter()
        .map(|flag| match flag {
            "random" => Some("random".to_owned()),
            "fully-random" => Some("fully-random".to_owned()),
            "persistent" => Some("persistent".to_owned()),
            _ => None,
        })
        .collect();
    flags
}

/// One word or several.
fn words(value: Option<&Value>) -> Option<Vec<&str>> {
    match value {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one]),
        Some(Value::Array(all)) => all.iter().map(Value::as_str).collect(),
        Some(_) => None,
    }
}

fn targets(reader: &Reader, object: &Map<String, Value>) -> Option<Vec<(All, To)>> {
    let ports = |value: &Value| values::ports(value).flatten();
    match (object.get("addr"), object.get("port")) {
        (None, None) => Some(vec![(All::default(), To::default())]),
        (Some(addr), port) => match addr.get("map") {
            Some(map) => {
                let fixed = match port {
                    None => None,
                    Some(port) => Some(ports(port)?),
                };
                let mut found = looked_up(reader, map)?;
                for (_, to) in &mut found {
                    to.ports = to.ports.or(fixed);
                }
                Some(found)
            }
            None => {
                let to = To {
                    addresses: vec![values::addresses(addr)?],
                    ports: match port {
                        None => None,
                        Some(port) => Some(ports(port)?),
                    },
                };
                Some(vec![(All::default(), to)])
            }
        },
        (None, Some(port)) => match port.get("map") {
            Some(map) => looked_up(reader, map),
            None => {
                let to = To {
                    addresses: Vec::new(),
                    ports: Some(ports(port)?),
                };
                Some(vec![(All::default(), to)])
            }
        },
    }
}

/// One alternative for each element of a map, or one with all addresses if the key is drawn by lot.
fn looked_up(reader: &Reader, map: &Value) -> Option<Vec<(All, To)>> {
    let (key, data) = (map.get("key")?, map.get("data")?);
    let elements = reader.sets.elements(reader.table, data)?;
    let lot = ["numgen", "jhash", "symhash"]
        .iter()
        .find_map(|kind| key.get(kind));
    let mut found: Vec<(All, To)> = Vec::new();
    let mut drawn = Vec::new();
    for element in &elements {
        let [from, to] = element.as_array()?.as_slice() else {
            return None;
        };
        let to = value(to)?;
        if lot.is_some() {
            drawn.push(from.as_u64()?);
            found.push((All::default(), to));
            continue;
        }
        for all in reader.compare(key, "==", std::slice::from_ref(from))? {
            found.push((all, to.clone()));
        }
    }
    let Some(lot) = lot else { return Some(found) };
    // Each of equal chance, or the shares differ.
    let sides = lot.get("mod")?.as_u64()?;
    let first = lot.get("offset").and_then(Value::as_u64).unwrap_or(0);
    drawn.sort_unstable();
    let complete = drawn.into_iter().eq(first..first.checked_add(sides)?);
    let ports = found.first()?.1.ports;
    let alike = found.iter().all(|(_, to)| to.ports == ports);
    let addresses = found.into_iter().flat_map(|(_, to)| to.addresses).collect();
    (complete && alike).then(|| vec![(All::default(), To { addresses, ports })])
}

/// The value of a map: an address, a port, or both.
fn value(value: &Value) -> Option<To> {
    if let Some(parts) = value.get("concat").and_then(Value::as_array) {
        let [address, port] = parts.as_slice() else {
            return None;
        };
        return Some(To {
            addresses: vec![values::addresses(address)?],
            ports: Some(values::ports(port)??),
        });
    }
    if let Some(addresses) = values::addresses(value) {
        return Some(To {
            addresses: vec![addresses],
            ports: None,
        });
    }
    Some(To {
        addresses: Vec::new(),
        ports: Some(values::ports(value)??),
    })
}
