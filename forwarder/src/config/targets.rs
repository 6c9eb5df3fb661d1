//! Where a rule sends: `to` and `source`.

use std::net::IpAddr;

use super::address;
use super::errors::Diagnostic;
use super::model::{Backend, BackendPort, PortRange, Source};
use super::ports;
use super::span::Located;
use super::suggest::did_you_mean;
use super::token::Token;
use super::tree::{Reader, Value};
use super::unsupported;

/// A backend as it was written; whether its ports fit the listener's is asked later.
#[derive(Clone, Debug)]
pub(super) struct RawBackend {
    pub address: IpAddr,
    /// `None`: the listener's. A single port is a range of one.
    pub ports: Option<Located<PortRange>>,
    /// Whether it was written as `PORT-PORT`.
    pub is_range: bool,
}

impl RawBackend {
    pub fn build(&self) -> Backend {
        let port = match &self.ports {
            None => BackendPort::Same,
            Some(ports) if self.is_range => BackendPort::First(ports.value.first),
            Some(ports) => BackendPort::Single(ports.value.first),
        };
        Backend {
            address: self.address,
            port,
        }
    }
}

/// `ADDR | ADDR:PORT | ADDR:PORT-PORT`.
pub(super) fn backend<'a>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
) -> Option<Located<RawBackend>> {
    let expected = "a string such as \"192.0.2.1\", \"192.0.2.1:110\" or a list of them";
    let token = value.token(reader, expected)?;
    reader.keep(unsupported::target(token).map_or(Ok(()), Err))?;
    let bare = token.text.parse::<IpAddr>().is_ok();
    let parts = if bare {
        None
    } else {
        reader.keep(address::split_host(token))?
    };
    let (host, ports) = parts.map_or((token, None), |(host, ports)| (host, Some(ports)));
    let address = if host.text.is_empty() {
        Err(no_address(token))
    } else {
        address::host(host)
    };
    let address = reader.keep(address);
    let ports = match ports {
        None => None,
        Some(token) => Some(Located {
            value: ports::read(reader, token)?,
            span: token.span(),
        }),
    };
    let is_range = ports.is_some()
        && token
            .text
            .rsplit(':')
            .next()
            .is_some_and(|ports| ports.contains('-'));
    Some(Located {
        value: RawBackend {
            address: address?,
            ports,
            is_range,
        },
        span: host.span(),
    })
}

fn no_address(token: Token) -> Diagnostic {
    token.error(format!(
        "bad target {}: expected an address before the colon",
        token.quoted()
    ))
}

/// `"preserve" | "masquerade" | ADDR | ADDR-ADDR`.
pub(super) fn source<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<Source>> {
    let expected = "`preserve`, `masquerade`, an address or two as `ADDR-ADDR`";
    let token = value.token(reader, &format!("a string: {expected}"))?;
    let source = match token.text {
        "preserve" => Ok(Source::Preserve),
        "masquerade" => Ok(Source::Masquerade),
        text if text.starts_with(|c: char| c.is_ascii_alphabetic())
            && !text.contains([':', '.']) =>
        {
            let message = format!("bad source {}: expected {expected}", token.quoted());
            let known = ["preserve", "masquerade"];
            let alias = match text {
                "snat" | "nat" | "auto" => Some("did you mean `masquerade`?".to_owned()),
                "client" | "keep" | "none" => Some("did you mean `preserve`?".to_owned()),
                _ => did_you_mean(text, known),
            };
            Err(token.error(message).maybe_help(alias))
        }
        _ => {
            return pool(reader, token).map(|value| Located {
                value,
                span: token.span(),
            });
        }
    };
    reader.keep(source).map(|value| Located {
        value,
        span: token.span(),
    })
}

fn pool(reader: &mut Reader, token: Token) -> Option<Source> {
    let (first, last) = token.split_once('-').unwrap_or((token, token));
    let low = reader.keep(address::host(first));
    let high = if first.text == last.text {
        low
    } else {
        reader.keep(address::host(last))
    };
    let (low, high) = (low?, high?);
    if low.is_ipv4() != high.is_ipv4() {
        let message = format!(
            "source pool {} mixes IPv4 and IPv6: expected one family",
            token.quoted()
        );
        reader.push(token.error(message));
        return None;
    }
    if low > high {
        let message = format!(
            "reversed source pool {}: expected the lower address first",
            token.quoted()
        );
        reader.push(
            token
                .error(message)
                .help(format!("did you mean `{high}-{low}`?")),
        );
        return None;
    }
    Some(Source::Pool {
        first: low,
        last: high,
    })
}
