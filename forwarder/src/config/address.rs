//! Addresses: of listeners, of backends, of source pools.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::errors::Diagnostic;
use super::token::Token;

/// An address to listen on.
pub(super) fn listener(token: Token) -> Result<IpAddr, Diagnostic> {
    let address = any(token)?;
    if address.is_unspecified() {
        let message = format!(
            "bad address {}: expected one address, or `*` for all",
            token.quoted()
        );
        return Err(token.error(message).help("did you mean `*`?"));
    }
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(token.error(format!(
            "bad address {}: expected a unicast address",
            token.quoted()
        )));
    }
    forwardable(token, address.into())?;
    Ok(address)
}

/// An address packets are sent to or sent from: of one host that is not this one.
pub(super) fn host(token: Token) -> Result<IpAddr, Diagnostic> {
    let address = any(token)?;
    let what = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_loopback() => "a loopback address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        _ => return forwardable(token, address.into()).map(|()| address),
    };
    Err(token.error(format!(
        "bad address {}, {what}: expected the address of one host",
        token.quoted()
    )))
}

/// Refuses IPv6 addresses that no forwarded packet has; one address is a prefix of full length.
pub(super) fn forwardable(token: Token, prefix: IpNet) -> Result<(), Diagnostic> {
    let IpAddr::V6(address) = prefix.addr() else {
        return Ok(());
    };
    let refusal = |what: &str| token.error(format!("bad address {}, {what}", token.quoted()));
    if let Some(mapped) = address.to_ipv4_mapped() {
        let length = prefix.prefix_len().saturating_sub(96);
        let plain = match length {
            32 => mapped.to_string(),
            _ => format!("{mapped}/{length}"),
        };
        let what = "IPv4 mapped into IPv6: expected one that stands in packets";
        return Err(refusal(what).help(format!("did you mean `{plain}`?")));
    }
    // RFC 4291 section 2.5.6.
    if address.is_unicast_link_local() {
        let what =
            "a link-local address, which no router forwards: expected a global or unique local one";
        return Err(refusal(what));
    }
    Ok(())
}

fn any(token: Token) -> Result<IpAddr, Diagnostic> {
    token.text.parse().map_err(|_| {
        let found = token.error(format!(
            "bad address {}: expected one such as `192.0.2.1` or `2001:db8::1`",
            token.quoted(),
        ));
        found.maybe_help(why_not(token.text))
    })
}

fn why_not(text: &str) -> Option<String> {
    if text.contains('/') {
        return Some("a prefix does not fit here".to_owned());
    }
    if text.contains('%') {
        return Some("a zone does not fit here".to_owned());
    }
    if let Some(inner) = bracketed(text) {
        return Some(format!("did you mean `{inner}`?"));
    }
    // A name has a letter that no IPv6 address has, or letters where an IPv4 address has digits.
    if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') {
        return Some("names are not looked up".to_owned());
    }
    let octets: Vec<&str> = text.split('.').collect();
    let number = |octet: &&str| octet.parse::<u32>().ok();
    if octets.len() == 4 && octets.iter().all(|octet| number(octet).is_some()) {
        let above = octets.iter().find(|octet| number(octet) > Some(255));
        let padded = octets
            .iter()
            .find(|octet| octet.len() > 1 && octet.starts_with('0'));
        return above
            .map(|octet| format!("`{octet}` is above 255"))
            .or(padded.map(|octet| format!("`{octet}` has a leading zero")));
    }
    None
}

/// The address of `[ADDR]`.
fn bracketed(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok()
}

/// `HOST:REST` or `[V6]:REST`, or `None` without a colon.
pub(super) fn split_host(token: Token) -> Result<Option<(Token, Token)>, Diagnostic> {
    let unclosed = || {
        let message = format!("bad address {}: expected `[ADDR]:PORT`", token.quoted());
        token.error(message)
    };
    if let Some(inner) = token.strip_prefix("[") {
        let (host, rest) = inner.split_once(']').ok_or_else(unclosed)?;
        let port = rest.strip_prefix(":").ok_or_else(unclosed)?;
        return Ok(Some((host, port)));
    }
    let Some((host, port)) = token.rsplit_once(':') else {
        return Ok(None);
    };
    if host.text.contains(':') {
        let message = format!(
            "bad address {}: expected an IPv6 address in brackets",
            token.quoted()
        );
        return Err(token
            .error(message)
            .help(format!("did you mean `[{}]:{}`?", host.text, port.text)));
    }
    Ok(Some((host, port)))
}

/// For an address alone where one with a port must stand; `what` says whose.
pub(super) fn without_port(token: Token, what: &str) -> Diagnostic {
    let message = format!(
        "{what} {} has no port: expected `ADDR:PORT`",
        token.quoted()
    );
    let host = match token.text {
        text if text.contains(':') && !text.starts_with('[') => format!("[{text}]"),
        text => text.to_owned(),
    };
    token.error(message).help(format!("write `{host}:PORT`"))
}

/// Whether this is an address and nothing else.
pub(super) fn is_alone(token: Token) -> bool {
    token.text.parse::<IpAddr>().is_ok() || bracketed(token.text).is_some()
}
