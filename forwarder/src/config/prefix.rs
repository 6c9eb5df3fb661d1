//! Client prefixes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address;
use super::errors::Diagnostic;
use super::token::Token;

/// `ADDR/LENGTH` without host bits, or `ADDR` for one client.
pub(super) fn parse(token: Token) -> Result<IpNet, Diagnostic> {
    let Some((address, length)) = token.split_once('/') else {
        let address = token.text.parse::<IpAddr>().map_err(|_| bad(token))?;
        return client(token, IpNet::from(address));
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
    client(token, prefix)
}

/// Refuses what holds no client at all.
fn client(token: Token, prefix: IpNet) -> Result<IpNet, Diagnostic> {
    let address = prefix.addr();
    if address.is_unspecified() && prefix.prefix_len() == prefix.max_prefix_len() {
        let message = format!(
            "bad address {}, the unspecified address: expected the address of one client, or a prefix",
            token.quoted()
        );
        return Err(token
            .error(message)
            .help(format!("did you mean `{address}/0`?")));
    }
    if address.is_ipv6() && address.is_multicast() {
        return Err(token.error(format!(
            "bad prefix {}, of multicast addresses: expected addresses of clients",
            token.quoted()
        )));
    }
    address::forwardable(token, prefix)?;
    Ok(prefix)
}

fn bad(token: Token) -> Diagnostic {
    let message = format!(
        "bad prefix {}: expected one such as `198.51.100.0/24` or `2001:db8::/32`",
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
