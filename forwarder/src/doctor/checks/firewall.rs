//! Netfilter, where packets still meet it: on the way to and from this host itself.

use std::net::IpAddr;

use super::{devices, local_ports, protocols};
use crate::config::{Output, PortRange, Rule};
use crate::doctor::Case;
use crate::doctor::facts::Ruleset;
use crate::doctor::facts::firewall::{Chain, Fate, Hook, Packet, Rule as FirewallRule};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;
use crate::report::counted;

pub(super) fn summary(case: &Case<'_>) -> String {
    let Some(ruleset) = &case.facts.firewall else {
        return String::new();
    };
    let rules = ruleset.chains.iter().map(|chain| chain.rules.len()).sum();
    match rules {
        0 => "no rules".to_owned(),
        rules => format!("{} looked at", counted(rules, "rule")),
    }
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let Some(ruleset) = &case.facts.firewall else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for rule in &case.config.rules {
        match local_ports(rule) {
            Some(ports) => found.extend(delivery(case, ruleset, rule, ports)),
            None => found.extend(duplicates(case, ruleset, rule)),
        }
    }
    for rule in &case.config.outputs {
        found.extend(output(ruleset, rule));
    }
    let mut seen: Vec<Finding> = Vec::new();
    for finding in found {
        if !seen.contains(&finding) {
            seen.push(finding);
        }
    }
    seen
}

/// The packets by which a rule's connections begin: of each device, protocol and family, and to the first and the last
/// of `ports`.
fn packets<'a>(case: &Case<'a>, rule: &'a Rule, ports: PortRange) -> Vec<Packet<'a>> {
    let families = [(rule.serves_v4(), false), (rule.serves_v6(), true)];
    let ports = if ports.first == ports.last {
        vec![ports.first]
    } else {
        vec![ports.first, ports.last]
    };
    let mut packets = Vec::new();
    for device in devices(case.config, rule.interface.as_deref()) {
        for protocol in protocols(rule.tcp, rule.udp) {
            for (_, v6) in families.iter().filter(|(serves, _)| *serves) {
                packets.extend(ports.iter().map(|port| Packet {
                    device: Some(device),
                    protocol,
                    destination: rule.listen.address,
                    v6: *v6,
                    port: *port,
                }));
            }
        }
    }
    packets
}

/// What is delivered here passes the host's firewall, with its new port.
fn delivery(case: &Case<'_>, ruleset: &Ruleset, rule: &Rule, ports: PortRange) -> Vec<Finding> {
    let mut found = Vec::new();
    for packet in packets(case, rule, ports) {
        for hook in [Hook::Prerouting, Hook::Input] {
            if let Fate::Dropped(chain, by) = ruleset.fate(hook, packet) {
                let port = packet.port;
                let what = format!(
                    "The firewall drops {} to port {port} of this host, where rule `{}` delivers, {}.",
                    packet.protocol.name(),
                    rule.name,
                    place(chain, by)
                );
                found.push(
                    Finding::error(Check::FirewallDrops, what)
                        .why("What is delivered to this host passes its firewall like everything else, with its new port.")
                        .run(accept(chain, packet, None)),
                );
            }
        }
    }
    found
}

/// Rules that did what the forwarder now does. It is first, so they are only in the way of who reads them.
fn duplicates(case: &Case<'_>, ruleset: &Ruleset, rule: &Rule) -> Vec<Finding> {
    let mut found = Vec::new();
    for packet in packets(case, rule, rule.listen.ports) {
        for other in ruleset.translations(Hook::Prerouting, packet) {
            let what = format!(
                "Netfilter translates what rule `{}` takes: {}.",
                rule.name, other.text
            );
            found.push(
                Finding::note(Check::FirewallDuplicates, what)
                    .why("The forwarder has the packets first, so this does nothing more for new connections; should the forwarder be taken away, it does again.")
                    .run(&other.remove),
            );
        }
    }
    found
}

/// Netfilter sees what this host sends before the programs do.
fn output(ruleset: &Ruleset, rule: &Output) -> Vec<Finding> {
    let mut found = Vec::new();
    for protocol in protocols(rule.tcp, rule.udp) {
        let packet = Packet {
            device: None,
            protocol,
            destination: Some(rule.address),
            v6: rule.address.is_ipv6(),
            port: rule.ports.first,
        };
        for other in ruleset.translations(Hook::Output, packet) {
            let what = format!(
                "Netfilter rewrites what rule `{}` is for: {}.",
                rule.name, other.text
            );
            found.push(
                Finding::error(Check::FirewallRewrites, what)
                    .why("It comes first, and the packets leave with another destination than the rule looks for.")
                    .run(&other.remove),
            );
        }
        if let Fate::Dropped(chain, by) = ruleset.fate(Hook::Output, packet) {
            let what = format!(
                "The firewall drops {} of this host to {}, which rule `{}` is for, {}.",
                protocol.name(),
                std::net::SocketAddr::new(rule.address, rule.ports.first),
                rule.name,
                place(chain, by)
            );
            found.push(
                Finding::error(Check::FirewallDrops, what)
                    .why("It comes before the forwarder.")
                    .run(accept(chain, packet, Some(rule.address))),
            );
        }
    }
    found
}

fn place(chain: &Chain, by: Option<&FirewallRule>) -> String {
    match by {
        Some(rule) => format!("by {}", rule.text),
        None => format!("by the policy of {} in {}", chain.name, chain.table),
    }
}

/// The command that lets `packet` through `chain`.
fn accept(chain: &Chain, packet: Packet<'_>, to: Option<IpAddr>) -> String {
    let (tool, table, name) = (&chain.tool, &chain.table, shell(&chain.name));
    let (protocol, port) = (packet.protocol.name(), packet.port);
    if tool == "nft" {
        let to = to.map_or_else(String::new, |address| {
            let family = if address.is_ipv6() { "ip6" } else { "ip" };
            format!("{family} daddr {address} ")
        });
        return format!("nft insert rule {table} {name} {to}{protocol} dport {port} accept");
    }
    let to = to.map_or_else(String::new, |address| format!("-d {address} "));
    format!("{tool} -t {table} -I {name} {to}-p {protocol} --dport {port} -j ACCEPT")
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::facts::firewall::{About, Action, Base, Test};
    use super::super::super::facts::sockets::Socket;
    use super::super::super::finding::Severity;
    use super::super::testing::{CONFIG, address, delivering, findings, found, healthy, out};
    use super::*;
    use crate::config::Protocol;
    use crate::doctor::facts::Neighbour;
    use rstest::rstest;

    fn chain(tool: &str, table: &str, hook: Hook, drops: bool, rules: Vec<FirewallRule>) -> Chain {
        Chain {
            tool: tool.to_owned(),
            table: table.to_owned(),
            name: "CHAIN".to_owned(),
            v4: true,
            v6: false,
            base: Some(Base {
                hook,
                priority: 0,
                drops,
            }),
            rules,
        }
    }

    fn rule(port: u16, action: Action) -> FirewallRule {
        FirewallRule {
            tests: vec![Test {
                about: About::Ports(vec![(port, port)]),
                negated: false,
            }],
            action,
            text: "the rule".to_owned(),
            remove: "remove it".to_owned(),
        }
    }

    fn with(facts: &mut Facts, chain: Chain) {
        facts.firewall = Some(Ruleset {
            chains: vec![chain],
        });
        facts.sockets = vec![Socket {
            protocol: Protocol::Tcp,
            address: "0.0.0.0:25".parse().unwrap(),
            owner: None,
        }];
    }

    #[rstest]
    #[case::policy(true, vec![], 1)]
    #[case::rule(false, vec![rule(25, Action::Drop)], 1)]
    #[case::let_in(true, vec![rule(25, Action::Accept)], 0)]
    #[case::the_old_port_does_not_count(true, vec![rule(986, Action::Accept)], 1)]
    fn what_is_delivered_passes_the_firewall(
        #[case] drops: bool,
        #[case] rules: Vec<FirewallRule>,
        #[case] count: usize,
    ) {
        let mut facts = healthy();
        with(
            &mut facts,
            chain("nft", "inet f", Hook::Input, drops, rules),
        );
        let all = findings(&delivering(), &facts);
        let checks: Vec<_> = all.iter().map(|one| (one.check, one.severity)).collect();
        assert_eq!(checks, vec![(Check::FirewallDrops, Severity::Error); count]);
    }

    #[rstest]
    #[case("nft", "inet f", "$ nft insert rule inet f CHAIN tcp dport 25 accept")]
    #[case(
        "iptables",
        "filter",
        "$ iptables -t filter -I CHAIN -p tcp --dport 25 -j ACCEPT"
    )]
    fn the_command_is_the_tools(#[case] tool: &str, #[case] table: &str, #[case] mend: &str) {
        let (_, _, command) = found(&delivering(), |facts| {
            with(facts, chain(tool, table, Hook::Input, true, Vec::new()));
        });
        assert_eq!(command, mend);
    }

    #[test]
    fn rules_that_do_the_same() {
        let rules = vec![rule(110, Action::Translate)];
        let change = |facts: &mut Facts| {
            with(
                facts,
                chain("iptables", "nat", Hook::Prerouting, false, rules),
            );
        };
        let expected = (
            Check::FirewallDuplicates,
            Severity::Note,
            "$ remove it".to_owned(),
        );
        assert_eq!(found(CONFIG, change), expected);
    }

    #[test]
    fn rules_that_come_before_an_output() {
        let (start, _) = CONFIG.split_once("[[forward]]").unwrap();
        let config = format!(
            "{start}[[output]]\nname = \"out\"\nto-address = \"192.0.2.7:25\"\nto = \"192.0.2.7:986\"\n[control]\nsocket = \"/tmp/s\"\n"
        );
        let rules = vec![rule(25, Action::Translate)];
        let change = |facts: &mut Facts| {
            let way = out("eth0", "203.0.113.1", Neighbour::Known);
            facts.ways.insert(address("192.0.2.7"), way);
            with(facts, chain("iptables", "nat", Hook::Output, false, rules));
        };
        let expected = (
            Check::FirewallRewrites,
            Severity::Error,
            "$ remove it".to_owned(),
        );
        assert_eq!(found(&config, change), expected);
    }
}
