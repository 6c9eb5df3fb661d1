//! `[[forward]]`.

use ipnet::IpNet;
use toml::de::DeValue;

use super::errors::Diagnostic;
use super::interface;
use super::listen::{self, RawListen};
use super::model::{Protocol, Source};
use super::model_rules::{Rule, Target};
use super::prefix;
use super::scalar;
use super::span::{Located, Span};
use super::targets::{self, RawBackend};
use super::token::Token;
use super::tree::{Reader, Section, Value};

/// A rule as it was written: parts that could not be read are `None`, those left out have their default.
#[derive(Debug)]
pub(super) struct RawRule {
    pub header: Span,
    pub name: Option<Located<String>>,
    pub protocols: Option<Vec<Protocol>>,
    pub interface: Option<Option<Located<String>>>,
    pub listen: Option<Located<RawListen>>,
    pub backends: Option<Vec<Located<RawBackend>>>,
    pub source: Option<Located<Source>>,
    pub allow: Option<Vec<Located<IpNet>>>,
    pub deny: Option<Vec<Located<IpNet>>>,
}

impl RawRule {
    /// `position` counts from 1 and makes the default name.
    pub fn read<'a>(reader: &mut Reader<'a>, section: Section<'a>, position: usize) -> Self {
        let default_name = Located {
            value: format!("forward-{position}"),
            span: section.span,
        };
        let preserve = Located {
            value: Source::default(),
            span: section.span,
        };
        Self {
            header: section.span,
            name: section
                .get("name")
                .map_or(Some(default_name), |value| name(reader, value)),
            protocols: section
                .get("protocol")
                .map_or(Some(vec![Protocol::Tcp]), |value| protocols(reader, value)),
            interface: match section.get("interface") {
                None => Some(None),
                Some(value) => interface::name(reader, value).map(Some),
            },
            listen: section
                .require(reader, "listen")
                .and_then(|value| listen::read(reader, value)),
            backends: section
                .require(reader, "to")
                .and_then(|value| backends(reader, value)),
            source: section
                .get("source")
                .map_or(Some(preserve), |value| targets::source(reader, value)),
            allow: section
                .get("allow")
                .map_or(Some(Vec::new()), |value| allow(reader, value)),
            deny: section
                .get("deny")
                .map_or(Some(Vec::new()), |value| prefixes(reader, value)),
        }
    }

    pub fn has(&self, protocol: Protocol) -> bool {
        self.protocols
            .as_ref()
            .is_some_and(|protocols| protocols.contains(&protocol))
    }

    pub fn build(self) -> Option<Rule> {
        let (tcp, udp) = (self.has(Protocol::Tcp), self.has(Protocol::Udp));
        let listen = self.listen?;
        let values =
            |prefixes: Vec<Located<IpNet>>| prefixes.into_iter().map(|one| one.value).collect();
        Some(Rule {
            name: self.name?.value,
            tcp,
            udp,
            interface: self.interface?.map(|name| name.value),
            listen: listen.value.listen,
            target: Target::Backends(
                self.backends?
                    .iter()
                    .map(|backend| backend.value.build())
                    .collect(),
            ),
            source: self.source?.value,
            allow: values(self.allow?),
            deny: values(self.deny?),
            mss_clamp: None,
            reset_unknown: false,
            span: listen.span,
        })
    }
}

fn name<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<String>> {
    let token = value.token(reader, "a string")?;
    let text = token.text;
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.trim() == text
        && !text.contains(char::is_control);
    if !fits {
        let expected = "1 to 64 bytes without control characters and without blanks around them";
        reader.push(token.error(format!(
            "bad rule name {}: expected {expected}",
            token.quoted()
        )));
    }
    fits.then(|| Located {
        value: text.to_owned(),
        span: token.span(),
    })
}

fn protocols<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Vec<Protocol>> {
    let elements = value.elements();
    if elements.is_empty() {
        let message = "empty list of protocols, `[]`: expected `tcp`, `udp` or both";
        reader.push(Diagnostic::at(value.span, message));
    }
    let mut all = Vec::new();
    let mut good = !elements.is_empty();
    for element in elements {
        match scalar::word_value(reader, element, &Protocol::WORDS) {
            Some(protocol) if all.contains(&protocol) => {
                let message = format!("protocol `{}` twice: expected each once", protocol.name());
                reader.push(Diagnostic::at(element.span, message));
                good = false;
            }
            Some(protocol) => all.push(protocol),
            None => good = false,
        }
    }
    good.then_some(all)
}

fn backends<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Vec<Located<RawBackend>>> {
    if matches!(value.node, DeValue::Array(elements) if elements.is_empty()) {
        let message =
            "empty list of backends, `[]`: expected at least one, such as `192.0.2.1:110`";
        reader.push(Diagnostic::at(value.span, message));
        return None;
    }
    all(value
        .elements()
        .into_iter()
        .map(|element| targets::backend(reader, element))
        .collect())
}

/// An empty `allow` could mean everybody or nobody. A script that generated it meant one of them, and guessing
/// wrong opens a mail relay or shuts it, so it must be said.
fn allow<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Vec<Located<IpNet>>> {
    if matches!(value.node, DeValue::Array(elements) if elements.is_empty()) {
        let message = "empty list of clients, `[]`: expected at least one prefix";
        reader.push(
            Diagnostic::at(value.span, message).help("leave `allow` out to let everybody in"),
        );
        return None;
    }
    prefixes(reader, value)
}

fn prefixes<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Vec<Located<IpNet>>> {
    let expected = "a list of prefixes such as [\"198.51.100.0/24\"]";
    let parse = |token: Token| {
        prefix::parse(token).map(|value| Located {
            value,
            span: token.span(),
        })
    };
    let elements = value.elements().into_iter();
    all(elements
        .map(|element| {
            element
                .token(reader, expected)
                .and_then(|token| reader.keep(parse(token)))
        })
        .collect())
}

/// All or nothing, but only after every element has been read and its problems noted.
fn all<T>(elements: Vec<Option<T>>) -> Option<Vec<T>> {
    elements.into_iter().collect()
}
