//! Addresses, ports and protocols as iptables writes them. `None` is what cannot be read.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::config::PortRange;
use crate::migrate::ruleset::Addresses;

/// `ADDR`, `ADDR/LENGTH`, `ADDR/MASK`, or several of them with commas.
pub(super) fn prefixes(text: &str) -> Option<Vec<IpNet>> {
    text.split(',').map(prefix).collect()
}

fn prefix(text: &str) -> Option<IpNet> {
    let Some((address, length)) = text.split_once('/') else {
        return Some(IpNet::from(text.parse::<IpAddr>().ok()?));
    };
    let address: IpAddr = address.parse().ok()?;
    let length = match length.parse::<Ipv4Addr>() {
        Ok(mask) => ipnet::ipv4_mask_to_prefix(mask).ok()?,
        Err(_) => length.parse().ok()?,
    };
    IpNet::new(address, length)
        .ok()
        .map(|prefix| prefix.trunc())
}

/// `FIRST-LAST`.
pub(super) fn address_range(text: &str) -> Option<Vec<IpNet>> {
    addresses(text).map(Addresses::prefixes)
}

/// `ADDR` or `FIRST-LAST`, each address or all of it in brackets.
fn addresses(text: &str) -> Option<Addresses> {
    fn inside(text: &str) -> &str {
        let inner = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        inner
            .filter(|inner| !inner.contains(['[', ']']))
            .unwrap_or(text)
    }
    let text = inside(text);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Addresses::new(inside(first).parse().ok()?, inside(last).parse().ok()?)
}

/// `PORT`, `FIRST:LAST`, `:LAST`, `FIRST:`, or several of them with commas. Port 0 is nobody's and left out.
pub(super) fn ports(text: &str) -> Option<Vec<PortRange>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let number = |text: &str, default: u16| match text {
            "" => Some(default),
            text => text.parse().ok(),
        };
        let (first, last) = match part.split_once(':') {
            Some((first, last)) => (number(first, 0)?, number(last, u16::MAX)?),
            None => {
                let port = part.parse().ok()?;
                (port, port)
            }
        };
        if first > last {
            return None;
        }
        all.extend(PortRange::new(first.max(1), last));
    }
    Some(all)
}

/// `PORT` or `FIRST-LAST`, of a target.
pub(super) fn target_ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange::new(first.parse().ok()?, last.parse().ok()?)
}

/// What follows `--to-destination` and `--to-source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub addresses: Option<Addresses>,
    pub ports: Option<PortRange>,
    pub base: Option<u16>,
}

/// `[ADDR[-ADDR]][:PORT[-PORT[/BASE]]]`; IPv6 is in brackets where ports follow.
pub(super) fn endpoint(text: &str) -> Option<Endpoint> {
    let plain_v6 = !text.contains('[') && text.matches(':').count() > 1;
    let (host, rest) = match text.rfind("]:") {
        _ if plain_v6 => (text, None),
        Some(at) => (&text[..=at], Some(&text[at + 2..])),
        None if text.ends_with(']') => (text, None),
        None => match text.split_once(':') {
            Some((host, rest)) => (host, Some(rest)),
            None => (text, None),
        },
    };
    let (ports, base) = match rest {
        None => (None, None),
        Some(rest) => match rest.split_once('/') {
            None => (Some(target_ports(rest)?), None),
            Some((ports, base)) => (Some(target_ports(ports)?), Some(base.parse().ok()?)),
        },
    };
    let addresses = match host {
        "" if ports.is_some() => None,
        host => Some(addresses(host)?),
    };
    Some(Endpoint {
        addresses,
        ports,
        base,
    })
}

/// The numbers of a protocol; none for `all`.
pub(super) fn protocol(name: &str) -> Option<Vec<u8>> {
    if name == "all" || name == "0" {
        return Some(Vec::new());
    }
    let known = PROTOCOLS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    match known {
        Some((_, number)) => Some(vec![*number]),
        None => name.parse().ok().map(|number| vec![number]),
    }
}

const PROTOCOLS: [(&str, u8); 12] = [
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("sctp", 132),
    ("dccp", 33),
    ("udplite", 136),
    ("igmp", 2),
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shown(text: &str) -> Option<String> {
        let Endpoint {
            addresses,
            ports,
            base,
        } = endpoint(text)?;
        let addresses = addresses.map(|one| format!("{}-{}", one.first, one.last));
        Some(format!(
            "{} {} {}",
            addresses.unwrap_or_default(),
            ports.map(|ports| ports.to_string()).unwrap_or_default(),
            base.map(|base| base.to_string()).unwrap_or_default()
        ))
    }

    #[rstest]
    #[case::address("192.0.2.1", Some("192.0.2.1-192.0.2.1  "))]
    #[case::port("192.0.2.1:25", Some("192.0.2.1-192.0.2.1 25 "))]
    #[case::ranges("192.0.2.1-192.0.2.3:25-30", Some("192.0.2.1-192.0.2.3 25-30 "))]
    #[case::base("192.0.2.1:25-30/1025", Some("192.0.2.1-192.0.2.1 25-30 1025"))]
    #[case::port_only(":25", Some(" 25 "))]
    #[case::v6("2001:db8::1", Some("2001:db8::1-2001:db8::1  "))]
    #[case::v6_range("2001:db8::1-2001:db8::3", Some("2001:db8::1-2001:db8::3  "))]
    #[case::v6_port("[2001:db8::1]:25", Some("2001:db8::1-2001:db8::1 25 "))]
    #[case::v6_pool(
        "[2001:db8::1]-[2001:db8::3]:1-9",
        Some("2001:db8::1-2001:db8::3 1-9 ")
    )]
    #[case::v6_pool_of_ip6tables(
        "[2001:db8::1-2001:db8::3]:1-9",
        Some("2001:db8::1-2001:db8::3 1-9 ")
    )]
    #[case::v6_brackets("[2001:db8::1]", Some("2001:db8::1-2001:db8::1  "))]
    #[case::empty("", None)]
    #[case::name("mail", None)]
    #[case::reversed("192.0.2.3-192.0.2.1", None)]
    #[case::mixed("192.0.2.3-2001:db8::1", None)]
    #[case::port_0("192.0.2.3:0", None)]
    fn endpoints(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(shown(text).as_deref(), expected);
    }

    #[rstest]
    #[case("25", Some("[25]"))]
    #[case("25,110:120,:30,65000:", Some("[25, 110-120, 1-30, 65000-65535]"))]
    #[case("0", Some("[]"))]
    #[case("smtp", None)]
    #[case("30:20", None)]
    fn port_lists(#[case] text: &str, #[case] expected: Option<&str>) {
        let shown = ports(text).map(|all| {
            let all: Vec<String> = all.iter().map(PortRange::to_string).collect();
            format!("[{}]", all.join(", "))
        });
        assert_eq!(shown.as_deref(), expected);
    }

    #[rstest]
    #[case("10.0.0.0/255.255.255.0", Some("10.0.0.0/24"))]
    #[case("10.0.0.7/24", Some("10.0.0.0/24"))]
    #[case("2001:db8::/32", Some("2001:db8::/32"))]
    #[case("10.0.0.0/255.0.255.0", None)]
    fn one_prefix(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(
            prefixes(text),
            expected.map(|one| vec![one.parse().unwrap()])
        );
    }
}
