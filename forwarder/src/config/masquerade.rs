//! `[[masquerade]]`.

use ipnet::IpNet;
use toml::de::DeValue;

use super::errors::Diagnostic;
use super::keys;
use super::model::{PortRange, Protocol, ProtocolPorts, Source};
use super::model_rules::{Filtering, Masquerade, MssClamp, OnChange};
use super::ports;
use super::scalar;
use super::source;
use super::span::{Located, Span};
use super::token::Token;
use super::tree::{Reader, Section, Value};

const PORTS: &str = "`PROTOCOL` or `PROTOCOL/PORT`, such as `tcp/25` or `udp/1024-2000`";

/// A rule as it was written, see [`RawRule`](super::rule::RawRule).
#[derive(Debug)]
pub(super) struct RawMasquerade {
    pub header: Span,
    pub name: Option<Located<String>>,
    pub from: Option<Vec<Located<IpNet>>>,
    pub interface: Option<Option<Located<String>>>,
    pub ports: Option<Vec<Located<ProtocolPorts>>>,
    pub source: Option<Located<Source>>,
    filtering: Option<Filtering>,
    shadow: Option<bool>,
    pub mss_clamp: Option<Option<Located<MssClamp>>>,
    on_change: Option<Option<OnChange>>,
}

impl RawMasquerade {
    /// `position` counts from 1 and makes the default name.
    pub fn read<'a>(reader: &mut Reader<'a>, section: Section<'a>, position: usize) -> Self {
        let masquerade = Located {
            value: Source::Masquerade,
            span: section.span,
        };
        let everybody = Some("everybody is `0.0.0.0/0` and `::/0`");
        Self {
            header: section.span,
            name: keys::name(reader, &section, ("masquerade", position)),
            from: section
                .require(reader, "from")
                .and_then(|value| keys::prefixes(reader, value, everybody)),
            interface: keys::interface(reader, &section),
            ports: section
                .get("ports")
                .map_or(Some(Vec::new()), |value| all_ports(reader, value)),
            source: section
                .get("source")
                .map_or(Some(masquerade), |value| source::masquerade(reader, value)),
            filtering: match section.get("filtering") {
                None => Some(Filtering::default()),
                Some(value) => scalar::word_value(reader, value, &Filtering::WORDS),
            },
            shadow: keys::shadow(reader, &section),
            mss_clamp: keys::mss_clamp(reader, &section),
            on_change: keys::on_change(reader, &section),
        }
    }

    pub fn build(self) -> Option<Masquerade> {
        let from = self.from?;
        let span = from.first()?.span;
        Some(Masquerade {
            name: self.name?.value,
            from: from.into_iter().map(|prefix| prefix.value).collect(),
            interface: self.interface?.map(|name| name.value),
            ports: self.ports?.into_iter().map(|ports| ports.value).collect(),
            source: self.source?.value,
            filtering: self.filtering?,
            shadow: self.shadow?,
            mss_clamp: self.mss_clamp?.map(|clamp| clamp.value),
            on_change: self.on_change?,
            span,
        })
    }
}

fn all_ports<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Vec<Located<ProtocolPorts>>> {
    if matches!(value.node, DeValue::Array(elements) if elements.is_empty()) {
        let message = format!("empty list of ports, `[]`: expected at least one {PORTS}");
        let help = "leave `ports` out to let everything through";
        reader.push(Diagnostic::at(value.span, message).help(help));
        return None;
    }
    let elements = value.elements().into_iter();
    let ports: Vec<_> = elements
        .map(|element| {
            let token = element.token(reader, &format!("strings: {PORTS}"))?;
            Some(Located {
                value: protocol_ports(reader, token)?,
                span: token.span(),
            })
        })
        .collect();
    // All or nothing, but only after every element has been read and its problems noted.
    ports.into_iter().collect()
}

/// `PROTOCOL`, `PROTOCOL/PORT` or `PROTOCOL/PORT-PORT`.
fn protocol_ports(reader: &mut Reader, token: Token) -> Option<ProtocolPorts> {
    let (protocol, range) = match token.split_once('/') {
        Some((protocol, range)) => (protocol, Some(range)),
        None => (token, None),
    };
    let is_number = protocol.text.starts_with(|c: char| c.is_ascii_digit());
    if is_number || protocol.text.is_empty() {
        let message = format!("bad ports {}: expected {PORTS}", token.quoted());
        reader.push(
            token
                .error(message)
                .maybe_help(with_protocol(protocol, range)),
        );
        return None;
    }
    let protocol = scalar::word(reader, protocol, "protocol", &Protocol::WORDS);
    let ports = match range {
        None => Some(PortRange::ALL),
        Some(range) => ports::read(reader, range),
    };
    Some(ProtocolPorts {
        protocol: protocol?,
        ports: ports?,
    })
}

/// What `25` and `25/tcp` were meant to be.
fn with_protocol(ports: Token, protocol: Option<Token>) -> Option<String> {
    ports::range(ports).ok()?;
    let protocol = protocol.map_or("tcp", |protocol| protocol.text);
    let known = Protocol::ALL.iter().any(|one| one.name() == protocol);
    known.then(|| format!("did you mean `{protocol}/{}`?", ports.text))
}
