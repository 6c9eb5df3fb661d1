//! `nft -j list ruleset`, see libnftables-json(5).

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Context as _;
use ipnet::IpNet;
use serde_json::Value;

use super::{About, Action, Base, Chain, Hook, Rule, Test};
use crate::doctor::shell;

/// Named sets by table and name.
type Sets = HashMap<(String, String), Value>;

/// Reads the whole ruleset.
///
/// # Errors
/// It is not what the manual says.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Chain>> {
    let whole: Value = serde_json::from_str(text).context("`nft -j` prints no JSON")?;
    let objects = whole["nftables"]
        .as_array()
        .context("`nft -j` prints something else than a ruleset")?;
    let mut sets = Sets::new();
    let mut chains: Vec<Chain> = Vec::new();
    for object in objects {
        let set = &object["set"];
        if set.is_object() {
            sets.insert((table(set), word(&set["name"])), set["elem"].clone());
        }
        let chain = &object["chain"];
        if chain.is_object() {
            chains.push(self::chain(chain));
        }
    }
    for object in objects {
        let rule = &object["rule"];
        let (table, name) = (table(rule), word(&rule["chain"]));
        let chain = chains
            .iter_mut()
            .find(|chain| chain.table == table && chain.name == name);
        if let Some(chain) = chain
            && rule.is_object()
        {
            chain.rules.push(self::rule(rule, &table, &sets));
        }
    }
    Ok(chains)
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Family and table, as commands have them.
fn table(object: &Value) -> String {
    let table = word(&object["table"]);
    format!("{} {}", word(&object["family"]), shell(&table))
}

fn chain(object: &Value) -> Chain {
    let family = word(&object["family"]);
    let hook = match object["hook"].as_str() {
        Some("prerouting") => Some(Hook::Prerouting),
        Some("input") => Some(Hook::Input),
        Some("output") => Some(Hook::Output),
        Some(_) => Some(Hook::Elsewhere),
        None => None,
    };
    Chain {
        tool: "nft".to_owned(),
        table: table(object),
        name: word(&object["name"]),
        v4: family == "ip" || family == "inet",
        v6: family == "ip6" || family == "inet",
        base: hook.map(|hook| Base {
            hook,
            priority: object["prio"]
                .as_i64()
                .and_then(|priority| priority.try_into().ok())
                .unwrap_or_default(),
            drops: object["policy"] == "drop",
        }),
        rules: Vec::new(),
    }
}

fn rule(object: &Value, table: &str, sets: &Sets) -> Rule {
    let (chain, handle) = (word(&object["chain"]), &object["handle"]);
    let mut rule = Rule {
        text: format!("rule {handle} of chain {chain} in table {table}"),
        remove: format!("nft delete rule {table} {} handle {handle}", shell(&chain)),
        ..Rule::default()
    };
    let expressions = object["expr"].as_array().map(Vec::as_slice);
    for expression in expressions.unwrap_or_default() {
        let Some((name, value)) = expression.as_object().and_then(|one| one.iter().next()) else {
            continue;
        };
        match name.as_str() {
            "match" => rule.tests.extend(tests(value, table, sets)),
            "accept" => rule.action = Action::Accept,
            "drop" | "reject" => rule.action = Action::Drop,
            "return" => rule.action = Action::Return,
            "jump" => rule.action = Action::Jump(word(&value["target"])),
            "goto" => rule.action = Action::Goto(word(&value["target"])),
            "dnat" | "redirect" | "tproxy" => rule.action = Action::Translate,
            "vmap" => rule.action = decided(value),
            "queue" | "synproxy" => rule.action = Action::Unknown,
            "xt" => translated(value, &mut rule),
            // Counters, logs, marks, limits and the like: all but limits let every packet go on.
            "limit" | "quota" | "ct count" => rule.tests.push(unknown()),
            _ => {}
        }
    }
    rule
}

fn unknown() -> Test {
    Test {
        about: About::Unknown,
        negated: false,
    }
}

/// A map from the connection's state is the usual first line; what others decide is not followed.
fn decided(map: &Value) -> Action {
    if map["key"]["ct"]["key"] != "state" {
        return Action::Unknown;
    }
    let elements = map["data"]["set"].as_array().map(Vec::as_slice);
    let new = elements
        .unwrap_or_default()
        .iter()
        .find(|element| element[0] == "new");
    match new {
        None => Action::Continue,
        Some(element) if element[1].get("accept").is_some() => Action::Accept,
        Some(element) if element[1].get("drop").is_some() => Action::Drop,
        Some(element) if element[1].get("jump").is_some() => {
            Action::Jump(word(&element[1]["jump"]["target"]))
        }
        Some(_) => Action::Unknown,
    }
}

/// What iptables put there and nft has no words for.
fn translated(extension: &Value, rule: &mut Rule) {
    match (extension["type"].as_str(), extension["name"].as_str()) {
        (Some("match"), Some("comment")) => {}
        (Some("match"), _) => rule.tests.push(unknown()),
        (_, Some("DNAT" | "REDIRECT" | "NETMAP" | "TPROXY")) => rule.action = Action::Translate,
        (_, Some("MASQUERADE" | "SNAT" | "LOG" | "MARK" | "TCPMSS" | "CHECKSUM")) => {}
        _ => rule.action = Action::Unknown,
    }
}

/// The conditions that one comparison stands for: `tcp dport 25` is about the protocol as well.
fn tests(comparison: &Value, table: &str, sets: &Sets) -> Vec<Test> {
    let negated = match comparison["op"].as_str() {
        Some("==" | "in") => false,
        Some("!=") => true,
        _ => return vec![unknown()],
    };
    let left = &comparison["left"];
    let right = match comparison["right"].as_str() {
        Some(name) if name.starts_with('@') => {
            let key = (table.to_owned(), name[1..].to_owned());
            sets.get(&key).cloned().unwrap_or_default()
        }
        _ => comparison["right"].clone(),
    };
    let values = elements(&right);
    let (about, protocol) = about(left, &values);
    let implied = protocol.map(|name| Test {
        about: About::Protocol(vec![name]),
        negated: false,
    });
    implied
        .into_iter()
        .chain([Test { about, negated }])
        .collect()
}

/// What a comparison is about, and the protocol that it implies.
fn about(left: &Value, values: &[Value]) -> (About, Option<String>) {
    let names = || values.iter().map(word).collect();
    let payload = &left["payload"];
    let key = (
        left["meta"]["key"].as_str(),
        payload["protocol"].as_str(),
        payload["field"].as_str(),
        left["ct"]["key"].as_str(),
    );
    match key {
        (Some("iifname" | "iif"), ..) => (About::Device(names()), None),
        (Some("l4proto"), ..) | (_, Some("ip"), Some("protocol"), _) => {
            (About::Protocol(names()), None)
        }
        (_, Some("ip6"), Some("nexthdr"), _) => (About::Protocol(names()), None),
        (_, Some("ip" | "ip6"), Some("daddr"), _) => {
            let prefixes: Option<Vec<IpNet>> = values.iter().map(prefix).collect();
            (prefixes.map_or(About::Unknown, About::Destination), None)
        }
        (_, Some(protocol), Some("dport"), _) => {
            let ranges: Option<Vec<_>> = values.iter().map(range).collect();
            let implied = (protocol != "th").then(|| protocol.to_owned());
            (ranges.map_or(About::Unknown, About::Ports), implied)
        }
        (.., Some("state")) => (About::State(names()), None),
        (_, Some(protocol @ ("tcp" | "udp" | "icmp" | "icmpv6" | "sctp")), ..) => {
            (About::Unknown, Some(protocol.to_owned()))
        }
        _ => (About::Unknown, None),
    }
}

fn elements(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values.clone(),
        Value::Object(object) => match object.get("set") {
            Some(Value::Array(values)) => values.clone(),
            _ => vec![value.clone()],
        },
        _ => vec![value.clone()],
    }
    .into_iter()
    // Elements with timeouts or comments are wrapped.
    .map(|value| match value.get("elem") {
        Some(wrapped) => wrapped["val"].clone(),
        None => value,
    })
    .collect()
}

fn range(value: &Value) -> Option<(u16, u16)> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    match value.get("range") {
        Some(range) => Some((number(&range[0])?, number(&range[1])?)),
        None => number(value).map(|port| (port, port)),
    }
}

fn prefix(value: &Value) -> Option<IpNet> {
    match value.get("prefix") {
        Some(prefix) => {
            let address: IpAddr = prefix["addr"].as_str()?.parse().ok()?;
            IpNet::new(address, u8::try_from(prefix["len"].as_u64()?).ok()?).ok()
        }
        None => {
            let address: IpAddr = value.as_str()?.parse().ok()?;
            Some(address.into())
        }
    }
}
