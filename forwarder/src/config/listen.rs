//! What a rule listens on.

use std::net::IpAddr;

use super::address;
use super::errors::Diagnostic;
use super::model::{Listen, PortRange};
use super::ports;
use super::span::Located;
use super::token::Token;
use super::tree::{Number, Reader, Value};

/// `ADDR:PORT | *:PORT | PORT`, each also with `PORT-PORT`, or an integer.
pub(super) fn read<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<Listen>> {
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
    Some(Located {
        value: Listen {
            address,
            ports: ports?,
        },
        span: whole.span(),
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
    if address::is_alone(token) || token.text == "*" {
        return Err(address::without_port(token, "listener"));
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

fn address_of(token: Option<Token>) -> Result<Option<IpAddr>, Diagnostic> {
    match token {
        None => Ok(None),
        Some(token) if token.text == "*" => Ok(None),
        Some(token) if token.text.is_empty() => {
            let message = "bad listener: expected an address or `*` before the colon";
            Err(token.error(message).help("did you mean `*`?"))
        }
        Some(token) => address::listener(token).map(Some),
    }
}
