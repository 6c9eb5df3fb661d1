//! Client prefixes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::errors::Diagnostic;
use super::token::Token;

/// `ADDR/LENGTH` without host bits, or `ADDR` for one client.
pub(super) fn parse(token: Token) -> Result<IpNet, Diagnostic> {
    let Some((address, length)) = token.split_once('/') else {
        return token
            .text
            .parse::<IpAddr>()
            .map(IpNet::from)
            .map_err(|_| bad(token));
    };
    let Ok(ip) = address.text.parse::<IpAddr>() else {
        return Err(bad(token));
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = length
        .text
        .parse::<u8>()
        .ok()
        .and_then(|length| IpNet::new(ip, length).ok());
    let Some(prefix) = prefix else {
        return Err(length.error(format!(
            "bad prefix length {}: expected 0 to {longest}",
            length.quoted()
        )));
    };
    if prefix.trunc() != prefix {
        let message = format!(
            "prefix {} has host bits set: expected only zeros after the prefix",
            token.quoted()
        );
        let help = format!(
            "did you mean `{}`, or `{ip}/{longest}` for one client?",
            prefix.trunc()
        );
        return Err(token.error(message).help(help));
    }
    Ok(prefix)
}

fn bad(token: Token) -> Diagnostic {
    let message = format!(
        "bad prefix {}: expected one such as `198.51.100.0/24`",
        token.quoted()
    );
    let masked = token
        .text
        .split_once('/')
        .is_some_and(|(_, mask)| mask.contains('.'));
    token
        .error(message)
        .maybe_help(masked.then(|| "write the mask as a number of bits".to_owned()))
}
