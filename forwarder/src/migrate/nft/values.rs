//! Values in nft's JSON: addresses, ports, sets. `None` is what cannot be read.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::config::PortRange;
use crate::migrate::ruleset::Addresses;

/// Family and name of a table.
pub(super) type TableName = (String, String);

/// The elements of named sets and maps.
#[derive(Debug, Default)]
pub(super) struct Sets(HashMap<(TableName, String), Vec<Value>>);

impl Sets {
    pub fn add(&mut self, table: TableName, name: &str, elements: &Value) {
        let elements = elements.as_array().cloned().unwrap_or_default();
        self.0
            .entry((table, name.to_owned()))
            .or_default()
            .extend(elements);
    }

    /// The elements of a set, named or not; of anything else the one that it is.
    pub fn elements(&self, table: &TableName, value: &Value) -> Option<Vec<Value>> {
        let set = match value {
            Value::String(text) => match text.strip_prefix('@') {
                Some(name) => self.0.get(&(table.clone(), name.to_owned()))?.clone(),
                None => vec![value.clone()],
            },
            Value::Object(object) if object.contains_key("set") => match &object["set"] {
                Value::Array(elements) => elements.clone(),
                one => vec![one.clone()],
            },
            Value::Array(elements) => elements.clone(),
            one => vec![one.clone()],
        };
        Some(set.into_iter().map(plain).collect())
    }
}

/// An element without its comment, timeout or counter.
fn plain(value: Value) -> Value {
    match value.pointer("/elem/val") {
        Some(inner) => inner.clone(),
        None => value,
    }
}

/// The two ends of `{"range": [FIRST, LAST]}`.
fn range(value: &Value) -> Option<(&Value, &Value)> {
    match value.get("range")?.as_array()?.as_slice() {
        [first, last] => Some((first, last)),
        _ => None,
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

/// An address, a prefix or a range.
pub(super) fn prefixes(value: &Value) -> Option<Vec<IpNet>> {
    if let Some(prefix) = value.get("prefix") {
        let length = prefix.get("len")?.as_u64()?.try_into().ok()?;
        let prefix = IpNet::new(address(prefix.get("addr")?)?, length).ok()?;
        return Some(vec![prefix.trunc()]);
    }
    if let Some((first, last)) = range(value) {
        return Some(Addresses::new(address(first)?, address(last)?)?.prefixes());
    }
    Some(vec![IpNet::from(address(value)?)])
}

/// An address or a range, of a translation. nft writes a range that is a prefix as such.
pub(super) fn addresses(value: &Value) -> Option<Addresses> {
    if let Some((first, last)) = range(value) {
        return Addresses::new(address(first)?, address(last)?);
    }
    match prefixes(value)?.as_slice() {
        [IpNet::V4(prefix)] => Addresses::new(prefix.network().into(), prefix.broadcast().into()),
        [IpNet::V6(prefix)] => Addresses::new(prefix.network().into(), prefix.broadcast().into()),
        _ => None,
    }
}

/// A number, which may be written as text.
pub(super) fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A port or a range of them; port 0 is nobody's and left out.
pub(super) fn ports(value: &Value) -> Option<Option<PortRange>> {
    let (first, last) = match range(value) {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(value)?, number(value)?),
    };
    (first <= last).then(|| PortRange::new(first.max(1), last))
}

/// The ports that `OP PORT` holds for.
pub(super) fn compared(op: &str, port: u16) -> Option<Vec<PortRange>> {
    let up_to = |last: Option<u16>| last.and_then(|last| PortRange::new(1, last));
    let from = |first: Option<u16>| first.and_then(|first| PortRange::new(first.max(1), u16::MAX));
    let found = match op {
        "<" => up_to(port.checked_sub(1)),
        "<=" => up_to(Some(port)),
        ">" => from(port.checked_add(1)),
        ">=" => from(Some(port)),
        _ => return None,
    };
    Some(found.into_iter().collect())
}
