//! What a rule listens on.

use std::net::IpAddr;

use super::address;
use super::errors::Diagnostic;
use super::model::{Listen, PortRange};
use super::ports;
use super::span::{Located, Span};
use super::token::Token;
use super::tree::{Number, Reader, Value};

/// A listener as it was written.
#[derive(Clone, Debug)]
pub(super) struct RawListen {
    pub listen: Listen,
    /// Where the address stands; the whole value without one.
    pub address: Span,
}

/// `ADDR:PORT | *:PORT | PORT`, each also with `PORT-PORT`, or an integer.
pub(super) fn read<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<RawListen>> {
    let expected = "a port or a string such as \"203.0.113.5:110\", \"*:110\" or \"*:1000-1009\"";
    let (whole, address, ports) = match value.number_text(reader) {
        None => return value.wrong_type(reader, expected),
        Some(Number::Integer(number, token)) => {
            (token, Ok(None), port_number(reader, number, token))
        }
        Some(Number::Text(token)) => {
            let (address, ports) = reader.keep(split(token))?;
            (token, address_of(address), ports::read(reader, ports))
        }
    };
    let address = reader.keep(address)?;
    let span = whole.span();
    let listen = Listen {
        address: address.map(|(_, address)| address),
        ports: ports?,
    };
    let address = address.map_or(span, |(token, _)| token.span());
    Some(Located {
        value: RawListen { listen, address },
        span,
    })
}

fn port_number(reader: &mut Reader, number: i128, token: Token) -> Option<PortRange> {
    let port = u16::try_from(number)
        .ok()
        .and_then(|port| PortRange::new(port, port));
    reader.keep(port.ok_or_else(|| ports::bad_port(token)))
}

type AddressAndPorts<'a> = (Option<Token<'a>>, Token<'a>);

fn split(token: Token) -> Result<AddressAndPorts, Diagnostic> {
    if token.text.parse::<IpAddr>().is_ok() || token.text == "*" {
        let message = format!(
            "listener {} has no port: expected `ADDR:PORT`",
            token.quoted()
        );
        let host = if token.text.contains(':') {
            format!("[{}]", token.text)
        } else {
            token.text.to_owned()
        };
        return Err(token.error(message).help(format!("write `{host}:PORT`")));
    }
    match address::split_host(token)? {
        Some((host, ports)) => Ok((Some(host), ports)),
        // Neither a number nor a range, so not a port that was mistyped but something else.
        None if !token
            .text
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '+') =>
        {
            let message = format!(
                "bad listener {}: expected `ADDR:PORT`, `*:PORT` or `PORT`",
                token.quoted()
            );
            Err(token.error(message))
        }
        None => Ok((None, token)),
    }
}

fn address_of(token: Option<Token>) -> Result<Option<(Token, IpAddr)>, Diagnostic> {
    match token {
        None => Ok(None),
        Some(token) if token.text == "*" => Ok(None),
        Some(token) if token.text.is_empty() => {
            let message = "bad listener: expected an address or `*` before the colon";
            Err(token.error(message).help("did you mean `*`?"))
        }
        Some(token) => address::listener(token).map(|address| Some((token, address))),
    }
}
