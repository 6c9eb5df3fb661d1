//! Rules of nft's JSON as text, near enough to what nft writes to be recognised.

use serde_json::Value;

/// A whole rule.
pub(super) fn rule(statements: &[Value], comment: Option<&str>) -> String {
    let mut words: Vec<String> = statements.iter().map(statement).collect();
    words.extend(comment.map(|text| format!("comment \"{text}\"")));
    words.join(" ")
}

/// One statement.
pub(super) fn statement(value: &Value) -> String {
    let Some((name, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return expression(value);
    };
    match name.as_str() {
        "match" => {
            let part = |key: &str| inner.get(key).map(expression).unwrap_or_default();
            let op = match inner.get("op").and_then(Value::as_str) {
                None | Some("==" | "in") => String::new(),
                Some(op) => format!("{op} "),
            };
            format!("{} {op}{}", part("left"), part("right"))
        }
        "jump" | "goto" => {
            let target = inner.get("target").and_then(Value::as_str);
            format!("{name} {}", target.unwrap_or_default())
        }
        "dnat" | "snat" | "redirect" | "masquerade" => nat(name, inner),
        "vmap" => format!("{} vmap {}", part(inner, "key"), part(inner, "data")),
        "counter" => "counter".to_owned(),
        "xt" => format!(
            "xt {} {}",
            inner
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or("statement"),
            inner
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
        ),
        "mangle" => format!("{} set {}", part(inner, "key"), part(inner, "value")),
        "log" => match inner.get("prefix").and_then(Value::as_str) {
            Some(prefix) => format!("log prefix \"{prefix}\""),
            None => "log".to_owned(),
        },
        "limit" => format!("limit rate {}/{}", part(inner, "rate"), part(inner, "per")),
        name if inner.is_null() => name.to_owned(),
        name => format!("{name} {}", expression(inner)),
    }
}

fn part(value: &Value, key: &str) -> String {
    value.get(key).map(expression).unwrap_or_default()
}

fn nat(name: &str, inner: &Value) -> String {
    let mut text = name.to_owned();
    let address = inner.get("addr").map(expression);
    let port = inner.get("port").map(expression);
    if address.is_some() || port.is_some() {
        text += " to ";
        text += &address.unwrap_or_default();
        text.extend(port.map(|port| format!(":{port}")));
    }
    for key in ["flags", "type_flags"] {
        text.extend(
            inner
                .get(key)
                .map(|flags| format!(" {}", expression(flags))),
        );
    }
    text
}

/// One expression.
fn expression(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(all) => list(all, ","),
        Value::Object(object) => match object.iter().next() {
            Some((name, inner)) if object.len() == 1 => named(name, inner),
            _ => {
                let parts = object
                    .iter()
                    .map(|(key, value)| format!("{key} {}", expression(value)));
                parts.collect::<Vec<_>>().join(" ")
            }
        },
    }
}

fn named(name: &str, inner: &Value) -> String {
    match (name, inner) {
        ("set", Value::Array(all)) => {
            let all: Vec<String> = all.iter().map(element).collect();
            format!("{{ {} }}", all.join(", "))
        }
        ("range", Value::Array(ends)) => list(ends, "-"),
        ("concat", Value::Array(all)) => list(all, " . "),
        ("&" | "|" | "^" | "<<" | ">>", Value::Array(sides)) => list(sides, &format!(" {name} ")),
        ("prefix", inner) if inner.is_object() => {
            format!("{}/{}", part(inner, "addr"), part(inner, "len"))
        }
        ("payload", inner) => format!("{} {}", part(inner, "protocol"), part(inner, "field")),
        ("meta", inner) => match inner.get("key").and_then(Value::as_str) {
            Some(key @ ("iifname" | "oifname" | "iif" | "oif")) => key.to_owned(),
            Some(key) => format!("meta {key}"),
            None => "meta".to_owned(),
        },
        ("ct", inner) => {
            format!("ct {} {}", part(inner, "dir"), part(inner, "key")).replace("  ", " ")
        }
        ("fib", inner) => format!("fib {} {}", part(inner, "flags"), part(inner, "result")),
        ("map", inner) => format!("{} map {}", part(inner, "key"), part(inner, "data")),
        ("elem", inner) => part(inner, "val"),
        ("tcp option", inner) => {
            format!(
                "tcp option {} {}",
                part(inner, "name"),
                part(inner, "field")
            )
        }
        ("rt", inner) => format!("rt {}", part(inner, "key")),
        ("numgen", inner) => format!("numgen {} mod {}", part(inner, "mode"), part(inner, "mod")),
        ("jhash", inner) => format!("jhash {} mod {}", part(inner, "expr"), part(inner, "mod")),
        ("jump" | "goto", inner) => format!("{name} {}", part(inner, "target")),
        (name, Value::Null) => name.to_owned(),
        (name, inner) => format!("{name} {}", expression(inner)),
    }
}

fn list(all: &[Value], between: &str) -> String {
    let all: Vec<String> = all.iter().map(expression).collect();
    all.join(between)
}

/// An element of a set or a map.
fn element(value: &Value) -> String {
    match value.as_array().map(Vec::as_slice) {
        Some([key, value]) => format!("{} : {}", expression(key), expression(value)),
        _ => expression(value),
    }
}
