//! The ways to backends, and whether replies come back by a device that is looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::doctor::Case;
use crate::doctor::facts::{Neighbour, Way};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (address, rules) in users(case) {
        let way = case.facts.ways.get(&address);
        found.extend(way.and_then(|way| usable(case, address, &rules, way)));
    }
    found.extend(unwatched(case));
    found
}

/// Addresses of backends, with the rules that send there.
fn users<'a>(case: &Case<'a>) -> BTreeMap<IpAddr, Vec<&'a str>> {
    let mut users: BTreeMap<IpAddr, Vec<&'a str>> = BTreeMap::new();
    for rule in &case.config.rules {
        for backend in rule.backends() {
            users.entry(backend.address).or_default().push(&rule.name);
        }
    }
    for rule in &case.config.outputs {
        users
            .entry(rule.backend.address)
            .or_default()
            .push(&rule.name);
    }
    for rules in users.values_mut() {
        rules.dedup();
    }
    users
}

fn usable(case: &Case<'_>, address: IpAddr, rules: &[&str], way: &Way) -> Option<Finding> {
    let of = format!("of {}", named(rules));
    let length = if address.is_ipv4() { 32 } else { 128 };
    match way {
        Way::None => {
            let what = format!("There is no route to {address}, a backend {of}.");
            Some(
                Finding::error(Check::NoRoute, what)
                    .why("Packets for it are dropped (`not-forwarded`).")
                    .advise(format!(
                        "Add one: ip route add {address}/{length} via ROUTER"
                    )),
            )
        }
        Way::Refused(kind, prefix) => {
            let what = format!("A {kind} route keeps packets from {address}, a backend {of}.");
            let finding = Finding::error(Check::NoRoute, what)
                .why("Packets for it are dropped (`unroutable`).");
            Some(match prefix {
                Some(prefix) => finding.run(format!("ip route del {kind} {prefix}")),
                None => finding.advise(format!(
                    "Find it in `ip route show table all` or `ip rule` and remove it: ip route get {address}"
                )),
            })
        }
        Way::Local => Some(to_self(case, address, &of)),
        Way::Out {
            device,
            next_hop,
            neighbour: Neighbour::Silent,
        } => {
            let what = format!("{next_hop} on {device}, the way to {address}, does not answer.");
            Some(
                Finding::error(Check::Neighbour, what)
                    .why(format!("Its MAC address is needed for packets {of}."))
                    .advise(format!(
                        "See that it is up and on the link of {device}: ip neigh show {next_hop} dev {}",
                        shell(device)
                    )),
            )
        }
        Way::Out { .. } => None,
    }
}

fn to_self(case: &Case<'_>, address: IpAddr, of: &str) -> Finding {
    let what = format!("{address}, a backend {of}, is this host itself.");
    let mut finding = Finding::error(Check::RouteToSelf, what)
        .why("What leaves for it would come in nowhere: packets are dropped (`not-forwarded`).");
    for rule in &case.config.rules {
        let [backend] = rule.backends() else { continue };
        if backend.address == address {
            let ports = rule.listen.ports;
            let shown = backend.display(ports);
            let port = backend.port_for(ports, ports.first);
            if port == ports.first {
                return finding.advise(format!(
                    "Take rule `{}` out: without it, packets go to the service here by themselves.",
                    rule.name
                ));
            }
            finding = finding.run(format!(
                "sed -i 's/\"{}\"/\"local:{port}\"/' {}",
                shown
                    .replace('.', r"\.")
                    .replace('[', r"\[")
                    .replace(']', r"\]"),
                shell(case.file)
            ));
        }
    }
    finding.advise("`local:PORT` delivers to a port of this host.")
}

/// Devices by which packets leave although nobody looks at what comes back by them.
fn unwatched(case: &Case<'_>) -> Vec<Finding> {
    let mut leaving: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut note = |way: Option<&Way>, rule| {
        if let Some(Way::Out { device, .. }) = way
            && let Some(device) = case.facts.device(device)
        {
            leaving.entry(&device.name).or_default().push(rule);
        }
    };
    for (address, rules) in users(case) {
        for rule in rules {
            note(case.facts.ways.get(&address), rule);
        }
    }
    for rule in &case.config.outputs {
        note(case.facts.ways.get(&rule.address), &rule.name);
    }
    for rule in &case.config.masquerades {
        for v6 in [false, true] {
            let serves = rule.from.iter().any(|from| from.addr().is_ipv6() == v6);
            let default = case.facts.defaults[usize::from(v6)].as_deref();
            if let Some(device) = default.filter(|_| serves) {
                leaving.entry(device).or_default().push(&rule.name);
            }
        }
    }
    let configured = |device: &str| case.config.interfaces.iter().any(|one| one.name == device);
    let unwatched = leaving
        .into_iter()
        .filter(|(device, _)| !configured(device));
    unwatched
        .map(|(device, mut rules)| {
            rules.sort_unstable();
            rules.dedup();
            let what = format!(
                "Packets of {} leave by {device}, which is no [[interface]] of {}.",
                named(&rules),
                case.file
            );
            let file = shell(case.file);
            Finding::error(Check::EgressNotConfigured, what)
                .why("Replies come in there and nobody translates them: connections do not come about.")
                .run(format!(
                    r#"printf '\n[[interface]]\nname = "{device}"\n' >> {file}"#
                ))
        })
        .collect()
}

/// "rule `a`", "rules `a`, `b`".
pub(super) fn named(rules: &[&str]) -> String {
    let quoted: Vec<_> = rules.iter().map(|rule| format!("`{rule}`")).collect();
    let plural = if rules.len() == 1 { "" } else { "s" };
    format!("rule{plural} {}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::{Facts, Neighbour, Way};
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, address, card, findings, found, healthy, out, own};
    use rstest::rstest;

    const BACKEND: &str = "195.228.245.1";

    fn way(facts: &mut Facts, way: Way) {
        facts.ways.insert(address(BACKEND), way);
    }

    #[rstest]
    #[case::none(
        Way::None,
        Check::NoRoute,
        "Add one: ip route add 195.228.245.1/32 via ROUTER"
    )]
    #[case::refused(
        Way::Refused("blackhole", Some("195.228.0.0/16".parse().unwrap())),
        Check::NoRoute,
        "$ ip route del blackhole 195.228.0.0/16"
    )]
    #[case::own(
        Way::Local,
        Check::RouteToSelf,
        "Take rule `pop3` out: without it, packets go to the service here by themselves."
    )]
    #[case::silent(
        out("eth0", "203.0.113.1", Neighbour::Silent),
        Check::Neighbour,
        "See that it is up and on the link of eth0: ip neigh show 203.0.113.1 dev eth0"
    )]
    fn ways_that_lead_nowhere(#[case] to: Way, #[case] check: Check, #[case] mend: &str) {
        let change = |facts: &mut Facts| way(facts, to);
        let expected = (check, Severity::Error, mend.to_owned());
        assert_eq!(found(CONFIG, change), expected);
    }

    #[test]
    fn another_port_of_this_host() {
        let config = CONFIG
            .replace("195.228.245.1:110", "195.228.245.1:25")
            .replace("source = \"masquerade\"", "");
        let (_, _, mend) = found(&config, |facts| way(facts, Way::Local));
        let expected = r#"$ sed -i 's/"195\.228\.245\.1:25"/"local:25"/' f.toml"#;
        assert_eq!(mend, expected);
    }

    #[test]
    fn replies_come_in_where_packets_leave() {
        let change = |facts: &mut Facts| {
            facts.devices.push(card("eth1", 3));
            facts.addresses.push(own("10.0.0.1", 24, 3));
            way(facts, out("eth1", BACKEND, Neighbour::Known));
        };
        let mend = r#"$ printf '\n[[interface]]\nname = "eth1"\n' >> f.toml"#.to_owned();
        assert_eq!(
            found(CONFIG, change),
            (Check::EgressNotConfigured, Severity::Error, mend)
        );
    }

    #[test]
    fn clients_behind_this_host_need_both_devices() {
        let (start, _) = CONFIG.split_once("[[forward]]").unwrap();
        let config = format!(
            "{start}[[masquerade]]\nname = \"lan\"\nfrom = [\"10.0.0.0/24\"]\n[control]\nsocket = \"/tmp/s\"\n"
        );
        let mut facts = healthy();
        assert_eq!(findings(&config, &facts), []);
        facts.devices.push(card("ppp0", 3));
        facts.addresses.push(own("192.0.2.1", 32, 3));
        facts.defaults[0] = Some("ppp0".to_owned());
        let all = findings(&config, &facts);
        assert_eq!(all[0].check, Check::EgressNotConfigured, "{all:?}");
    }
}
