//! Where a rule sends: `to`.

use std::net::IpAddr;

use toml::de::DeValue;

use super::address;
use super::errors::Diagnostic;
use super::model::{Backend, BackendPort, PortRange};
use super::model_rules::Target;
use super::ports;
use super::span::{Located, Span};
use super::suggest::nearest;
use super::token::Token;
use super::tree::{Reader, Value};

/// A target as it was written; whether its ports fit the listener's is asked later.
#[derive(Clone, Debug)]
pub(super) enum RawTarget {
    Backends(Vec<Located<RawBackend>>),
    Local(Located<RawPorts>),
}

impl RawTarget {
    pub fn build(&self) -> Target {
        match self {
            Self::Backends(all) => {
                Target::Backends(all.iter().map(|one| one.value.build()).collect())
            }
            Self::Local(ports) => Target::Local(ports.value.build()),
        }
    }

    pub fn backends(&self) -> &[Located<RawBackend>] {
        match self {
            Self::Backends(backends) => backends,
            Self::Local(_) => &[],
        }
    }

    /// The ports of all its parts that name some.
    pub fn ports(&self) -> impl Iterator<Item = &RawPorts> {
        let local = match self {
            Self::Backends(_) => None,
            Self::Local(ports) => Some(&ports.value),
        };
        let backends = self.backends().iter();
        backends
            .filter_map(|one| one.value.ports.as_ref())
            .chain(local)
    }
}

/// A backend as it was written.
#[derive(Clone, Debug)]
pub(super) struct RawBackend {
    pub address: IpAddr,
    /// `None`: the listener's.
    pub ports: Option<RawPorts>,
}

impl RawBackend {
    pub fn build(&self) -> Backend {
        Backend {
            address: self.address,
            port: self
                .ports
                .as_ref()
                .map_or(BackendPort::Same, RawPorts::build),
        }
    }
}

/// The ports of a target.
#[derive(Clone, Debug)]
pub(super) struct RawPorts {
    /// A single port is a range of one.
    pub range: PortRange,
    /// Whether it was written as `PORT-PORT`.
    pub is_range: bool,
    pub span: Span,
}

impl RawPorts {
    fn read(reader: &mut Reader, token: Token) -> Option<Self> {
        Some(Self {
            range: ports::read(reader, token)?,
            is_range: token.text.contains('-'),
            span: token.span(),
        })
    }

    pub fn build(&self) -> BackendPort {
        match self.is_range {
            true => BackendPort::First(self.range.first),
            false => BackendPort::Single(self.range.first),
        }
    }
}

/// `ADDR | ADDR:PORT | ADDR:PORT-PORT`, or a list of them; or `local:PORT | local:PORT-PORT`.
pub(super) fn read<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<RawTarget> {
    if matches!(value.node, DeValue::Array(elements) if elements.is_empty()) {
        let message =
            "empty list of backends, `[]`: expected at least one, such as `192.0.2.1:110`";
        reader.push(Diagnostic::at(value.span, message));
        return None;
    }
    let expected =
        "a string such as \"192.0.2.1\", \"192.0.2.1:110\", \"local:110\" or a list of them";
    let elements = value.elements();
    let tokens: Vec<_> = elements
        .iter()
        .map(|element| element.token(reader, expected))
        .collect();
    let mut locals = tokens.iter().flatten().filter(|token| is_local(**token));
    match locals.next() {
        Some(token) if tokens.len() == 1 => local(reader, *token).map(RawTarget::Local),
        Some(token) => {
            let message = format!(
                "target {} in a list: expected it alone, or backends only",
                token.quoted()
            );
            reader.push(token.error(message));
            for token in tokens.iter().flatten().filter(|token| !is_local(**token)) {
                backend(reader, *token, local_instead);
            }
            None
        }
        None => {
            let backends: Vec<_> = tokens
                .into_iter()
                .map(|token| backend(reader, token?, local_instead))
                .collect();
            // All or nothing, but only after every element has been read and its problems noted.
            let backends: Option<Vec<_>> = backends.into_iter().collect();
            backends.map(RawTarget::Backends)
        }
    }
}

/// Whether this means a port of this host, well or badly written.
pub(super) fn is_local(token: Token) -> bool {
    token.text == "local" || token.text.starts_with("local:")
}

fn local(reader: &mut Reader, token: Token) -> Option<Located<RawPorts>> {
    let Some((_, ports)) = token.split_once(':') else {
        let message = format!(
            "target {} has no port: expected `local:PORT`",
            token.quoted()
        );
        let help = "without a rule packets for this host go to the port they name";
        reader.push(token.error(message).help(help));
        return None;
    };
    Some(Located {
        value: RawPorts::read(reader, ports)?,
        span: token.span(),
    })
}

/// `ADDR | ADDR:PORT | ADDR:PORT-PORT`; `instead` knows what a bad address and its ports were meant to be.
pub(super) fn backend(
    reader: &mut Reader,
    token: Token,
    instead: fn(Token, Option<Token>) -> Option<String>,
) -> Option<Located<RawBackend>> {
    let parts = if address::is_alone(token) {
        None
    } else {
        reader.keep(address::split_host(token))?
    };
    let (host, ports) = parts.map_or((token, None), |(host, ports)| (host, Some(ports)));
    let address = if host.text.is_empty() {
        Err(no_address(token))
    } else {
        address::host(host).map_err(|found| found.maybe_help(instead(host, ports)))
    };
    let address = reader.keep(address);
    let ports = match ports {
        None => None,
        Some(token) => Some(RawPorts::read(reader, token)?),
    };
    Some(Located {
        value: RawBackend {
            address: address?,
            ports,
        },
        span: host.span(),
    })
}

/// `localhost:25` and `127.0.0.1:25` are ways to say `local:25`.
fn local_instead(host: Token, ports: Option<Token>) -> Option<String> {
    let ports = ports?;
    let loopback = host
        .text
        .parse()
        .is_ok_and(|address: IpAddr| address.is_loopback());
    let named = nearest(host.text, ["local"]).is_some();
    (loopback || named).then(|| format!("did you mean `local:{}`?", ports.text))
}

fn no_address(token: Token) -> Diagnostic {
    token.error(format!(
        "bad target {}: expected an address before the colon",
        token.quoted()
    ))
}
