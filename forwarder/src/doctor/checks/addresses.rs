//! Addresses that this host should have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::devices;
use crate::config::Source;
use crate::datapath::Address;
use crate::doctor::Case;
use crate::doctor::facts::Way;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

/// How many missing addresses of a pool get a command each.
const COMMANDS: usize = 8;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &case.config.rules {
        let device = devices(case.config, rule.interface.as_deref()).next();
        if let Some(address) = rule.listen.address {
            let what = format!("Rule `{}` listens on {address}", rule.name);
            found.extend(foreign(case, &what, &[address], device));
        }
        if let Source::Pool { first, last } = rule.source {
            let what = format!("Rule `{}` sends as {}", rule.name, rule.source);
            let way = rule.backends().first();
            let way = way.and_then(|backend| case.facts.ways.get(&backend.address));
            let device = leaving(way).or(device);
            found.extend(foreign(case, &what, &pool(first, last), device));
        }
        if rule.source == Source::Masquerade {
            for backend in rule.backends() {
                let device = leaving(case.facts.ways.get(&backend.address));
                found.extend(unaddressed(
                    case,
                    &rule.name,
                    device,
                    backend.address.is_ipv6(),
                ));
            }
        }
    }
    for rule in &case.config.masquerades {
        for v6 in [false, true] {
            let device = case.facts.defaults[usize::from(v6)].as_deref();
            match rule.source {
                _ if !rule.from.iter().any(|from| from.addr().is_ipv6() == v6) => {}
                Source::Pool { first, last } => {
                    let what = format!("Rule `{}` sends as {}", rule.name, rule.source);
                    found.extend(foreign(case, &what, &pool(first, last), device));
                }
                _ => found.extend(unaddressed(case, &rule.name, device, v6)),
            }
        }
    }
    found.dedup();
    found
}

fn leaving(way: Option<&Way>) -> Option<&str> {
    match way {
        Some(Way::Out { device, .. }) => Some(device),
        _ => None,
    }
}

/// The addresses of a pool, as far as anybody would want to read of them.
fn pool(first: IpAddr, last: IpAddr) -> Vec<IpAddr> {
    const MOST: u128 = 4096;
    let number = |address| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let (start, end) = (number(first), number(last));
    (start..=end.min(start.saturating_add(MOST - 1)))
        .map(|number| match first {
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or_default()).into(),
            IpAddr::V6(_) => Ipv6Addr::from(number).into(),
        })
        .collect()
}

/// Those of `addresses` that are not this host's. On a link of this host nobody else answers for them.
fn foreign(
    case: &Case<'_>,
    what: &str,
    addresses: &[IpAddr],
    device: Option<&str>,
) -> Option<Finding> {
    let missing: Vec<_> = addresses
        .iter()
        .copied()
        .filter(|address| !case.facts.owns(*address))
        .collect();
    let first = *missing.first()?;
    let whose = match missing.len() {
        1 if addresses.len() == 1 => "which is no address of this host".to_owned(),
        1 => format!("and {first} is no address of this host"),
        count => format!("and {count} of these are no addresses of this host, {first} for one"),
    };
    let what = format!("{what}, {whose}.");
    let near = case.facts.addresses.iter().any(|own| on_link(own, first));
    let mut finding = if near {
        Finding::warning(Check::ForeignAddress, what)
            .why("Its neighbours on the link ask who has it, and nobody answers.")
    } else {
        Finding::note(Check::ForeignAddress, what)
            .why("That works if routers send packets for it to this host.")
    };
    let Some(device) = device else {
        return Some(finding);
    };
    for address in missing.iter().take(COMMANDS) {
        let length = if address.is_ipv4() { 32 } else { 128 };
        finding = finding.run(format!(
            "ip addr add {address}/{length} dev {}",
            shell(device)
        ));
    }
    if missing.len() > COMMANDS {
        let rest = missing.len() - COMMANDS;
        finding = finding.advise(format!("And so on for the other {rest}."));
    }
    Some(finding)
}

fn on_link(own: &Address, address: IpAddr) -> bool {
    IpNet::new(own.address, own.prefix).is_ok_and(|net| net.contains(&address))
}

/// Masquerade takes an address of the device by which packets leave.
fn unaddressed(case: &Case<'_>, rule: &str, device: Option<&str>, v6: bool) -> Option<Finding> {
    let device = case.facts.device(device?)?;
    let has = case
        .facts
        .addresses
        .iter()
        .any(|own| own.interface == device.index && own.primary && own.address.is_ipv6() == v6);
    if has {
        return None;
    }
    let (name, family) = (&device.name, if v6 { "IPv6" } else { "IPv4" });
    let what = format!("{name}, by which packets of rule `{rule}` leave, has no {family} address.");
    Some(
        Finding::error(Check::NoOwnAddress, what)
            .why("`source = \"masquerade\"` has nothing to send as: packets are dropped (`no-source-address`).")
            .advise(format!(
                "Give it one: ip addr add ADDRESS/LENGTH dev {}",
                shell(name)
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, findings, found, healthy, with_rule};
    use rstest::rstest;

    const MASQUERADE: &str = "source = \"masquerade\"";

    #[rstest]
    #[case::near("203.0.113.9", Severity::Warning)]
    #[case::far("192.0.2.9", Severity::Note)]
    fn an_address_to_listen_on(#[case] address: &str, #[case] severity: Severity) {
        let config = CONFIG.replace("203.0.113.5", address);
        let mend = format!("$ ip addr add {address}/32 dev eth0");
        assert_eq!(
            found(&config, |_| {}),
            (Check::ForeignAddress, severity, mend)
        );
    }

    #[test]
    fn addresses_to_send_as() {
        let config = CONFIG.replace(MASQUERADE, "source = \"203.0.113.4-203.0.113.7\"");
        let all = findings(&config, &healthy());
        assert_eq!(all.len(), 1);
        assert!(all[0].what.contains("3 of these"), "{all:?}");
        assert_eq!(all[0].mend.len(), 3);
    }

    #[test]
    fn ipv6_addresses_have_128_bits() {
        let config = with_rule("listen = \"[2001:db8:113::6]:110\"\nto = \"2001:db8:195::1\"");
        let (_, _, mend) = found(&config, |_| {});
        assert_eq!(mend, "$ ip addr add 2001:db8:113::6/128 dev eth0");
    }

    #[test]
    fn masquerade_needs_an_address() {
        let config = CONFIG
            .replace("203.0.113.5", "*")
            .replace("\"*:110\"", "110");
        let (check, severity, mend) = found(&config, |facts: &mut Facts| {
            facts.addresses.retain(|own| own.address.is_ipv6());
        });
        assert_eq!((check, severity), (Check::NoOwnAddress, Severity::Error));
        assert!(mend.contains("ip addr add"), "{mend}");
    }
}
