//! `[original-destination]`.

use std::net::{IpAddr, Ipv4Addr};

use toml::de::DeTable;

use super::address;
use super::errors::Diagnostic;
use super::model_settings::OriginalDestination;
use super::scalar;
use super::schema;
use super::tree::{Reader, Section, Value};

/// The protocol's own port.
const PORT: u32 = 114;
/// As many as the table holds.
const MOST: usize = 4096;

/// What the file says of queries for original destinations; without the table none is answered.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    root: &'a DeTable<'a>,
) -> Option<OriginalDestination> {
    let section = Section::single(reader, root, &schema::ORIGINAL)?;
    let proxies = section.require(reader, "proxies");
    let proxies = proxies.and_then(|value| proxies_of(reader, value));
    let mut number = |key, range, default| match section.get(key) {
        Some(value) => scalar::number(reader, value, range),
        None => Some(default),
    };
    let port = number("port", 1..=u32::from(u16::MAX), PORT);
    let secret = number("secret", 0..=u32::MAX, 0);
    for (key, wanted, message) in [
        ("udp", true, "`udp = false` leaves nothing that answers"),
        (
            "tcp",
            false,
            "`tcp = true` is not supported by this version yet",
        ),
    ] {
        let Some(value) = section.get(key) else {
            continue;
        };
        if scalar::boolean(reader, value).is_some_and(|given| given != wanted) {
            reader.push(Diagnostic::at(value.span, message).help("take it out"));
        }
    }
    Some(OriginalDestination {
        proxies: proxies?,
        port: u16::try_from(port?).ok()?,
        secret: secret?,
    })
}

/// One address or a list of them, of IPv4: the protocol has no room for others.
fn proxies_of<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Vec<Ipv4Addr>> {
    let elements = value.elements();
    if elements.is_empty() || elements.len() > MOST {
        let message = format!(
            "`proxies` has {}: expected 1 to {MOST} addresses",
            elements.len()
        );
        reader.push(Diagnostic::at(value.span, message));
        return None;
    }
    let mut proxies = Vec::new();
    for element in &elements {
        let token = element.token(reader, "an address such as \"194.0.22.9\"")?;
        match reader.keep(address::host(token))? {
            IpAddr::V4(address) => proxies.push(address),
            IpAddr::V6(_) => {
                let message = format!(
                    "bad proxy {}: expected an IPv4 address, since the protocol has no others",
                    token.quoted()
                );
                reader.push(token.error(message));
                return None;
            }
        }
    }
    Some(proxies)
}
