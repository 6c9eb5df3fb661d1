//! `[[output]]`.

use std::net::IpAddr;

use super::address;
use super::errors::Diagnostic;
use super::keys;
use super::model::{PortRange, Protocol};
use super::model_rules::{OnChange, Output};
use super::ports;
use super::span::{Located, Span};
use super::targets::{self, RawBackend};
use super::token::Token;
use super::tree::{Reader, Section, Value};

/// A rule as it was written, see [`RawRule`](super::rule::RawRule).
#[derive(Debug)]
pub(super) struct RawOutput {
    pub header: Span,
    pub name: Option<Located<String>>,
    pub protocols: Option<Vec<Protocol>>,
    pub destination: Option<Located<Destination>>,
    pub backend: Option<Located<RawBackend>>,
    on_change: Option<Option<OnChange>>,
}

/// `to-address`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    pub address: IpAddr,
    pub ports: PortRange,
}

impl RawOutput {
    /// `position` counts from 1 and makes the default name.
    pub fn read<'a>(reader: &mut Reader<'a>, section: Section<'a>, position: usize) -> Self {
        Self {
            header: section.span,
            name: keys::name(reader, &section, ("output", position)),
            protocols: keys::protocols(reader, &section),
            destination: section
                .require(reader, "to-address")
                .and_then(|value| destination(reader, value)),
            backend: section
                .require(reader, "to")
                .and_then(|value| backend(reader, value)),
            on_change: keys::on_change(reader, &section),
        }
    }

    pub fn has(&self, protocol: Protocol) -> bool {
        self.protocols
            .as_ref()
            .is_some_and(|protocols| protocols.contains(&protocol))
    }

    pub fn build(self) -> Option<Output> {
        let (tcp, udp) = (self.has(Protocol::Tcp), self.has(Protocol::Udp));
        let destination = self.destination?;
        Some(Output {
            name: self.name?.value,
            tcp,
            udp,
            address: destination.value.address,
            ports: destination.value.ports,
            backend: self.backend?.value.build(),
            on_change: self.on_change?,
            span: destination.span,
        })
    }
}

/// `ADDR:PORT` or `ADDR:PORT-PORT`.
fn destination<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<Destination>> {
    let token = value.token(reader, "a string such as \"192.0.2.7:25\"")?;
    let (host, range) = reader.keep(split(token))?;
    let address = reader.keep(address::host(host));
    let ports = ports::read(reader, range);
    Some(Located {
        value: Destination {
            address: address?,
            ports: ports?,
        },
        span: token.span(),
    })
}

fn split(token: Token) -> Result<(Token, Token), Diagnostic> {
    if address::is_alone(token) {
        return Err(address::without_port(token, "destination"));
    }
    let parts = address::split_host(token)?;
    let named = parts.filter(|(host, _)| !host.text.is_empty() && host.text != "*");
    named.ok_or_else(|| {
        token.error(format!(
            "bad destination {}: expected `ADDR:PORT`, the address and port of one server",
            token.quoted()
        ))
    })
}

/// `ADDR`, `ADDR:PORT` or `ADDR:PORT-PORT`.
fn backend<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<RawBackend>> {
    let token = value.token(reader, "a string such as \"192.0.2.7:986\"")?;
    if targets::is_local(token) {
        let message = format!(
            "bad target {}: expected the address of another host",
            token.quoted()
        );
        let help = "`local` is for what arrives, in `[[forward]]`";
        reader.push(token.error(message).help(help));
        return None;
    }
    targets::backend(reader, token, |_, _| None)
}
