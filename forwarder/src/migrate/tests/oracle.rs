//! What the rules mean, judged packet by packet: a second, plain reading of iptables' rules and of the configuration
//! that came of them must send every packet to the same place, as the same host, or the import has said that it does
//! not.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::super::{Hints, ImportError, Imported, import_iptables};
use crate::config::{Config, Protocol, Source, Target};

#[derive(Clone, Debug)]
enum Condition {
    Source(bool, IpNet),
    Destination(bool, IpNet),
    Device(bool, &'static str),
    Port(bool, u16, u16),
    Tcp,
}

#[derive(Clone, Debug)]
enum Verdict {
    Send(Ipv4Addr, Option<u16>),
    Redirect(u16),
    Masquerade,
    From(Ipv4Addr),
    Accept,
    Return,
    Jump(usize),
}

#[derive(Clone, Debug)]
struct Rule {
    chain: usize,
    conditions: Vec<Condition>,
    verdict: Verdict,
}

/// A chain may call those behind it.
const CHAINS: [&str; 4] = ["PREROUTING", "one", "two", "POSTROUTING"];

#[derive(Clone, Copy, Debug)]
struct Packet {
    device: &'static str,
    protocol: Protocol,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    port: u16,
}

/// What becomes of a packet, and by which lines of the text: the deciding one is the first.
type Fate<T> = Option<(T, Vec<usize>)>;

fn holds(condition: &Condition, packet: &Packet) -> bool {
    let (not, fits) = match condition {
        Condition::Source(not, prefix) => (*not, prefix.contains(&IpAddr::V4(packet.source))),
        Condition::Destination(not, prefix) => {
            (*not, prefix.contains(&IpAddr::V4(packet.destination)))
        }
        Condition::Device(not, name) => (*not, packet.device == *name),
        Condition::Port(not, first, last) => (*not, (*first..=*last).contains(&packet.port)),
        Condition::Tcp => (false, packet.protocol == Protocol::Tcp),
    };
    fits != not
}

enum Walked {
    Done(Fate<Verdict>),
    Back,
}

fn walk(rules: &[(usize, Rule)], chain: usize, packet: &Packet) -> Walked {
    for (line, rule) in rules.iter().filter(|(_, rule)| rule.chain == chain) {
        if !rule.conditions.iter().all(|one| holds(one, packet)) {
            continue;
        }
        match &rule.verdict {
            Verdict::Accept => return Walked::Done(None),
            Verdict::Return => return Walked::Back,
            Verdict::Jump(called) => match walk(rules, *called, packet) {
                Walked::Done(fate) => {
                    return Walked::Done(fate.map(|(verdict, mut lines)| {
                        lines.push(*line);
                        (verdict, lines)
                    }));
                }
                Walked::Back => {}
            },
            verdict => return Walked::Done(Some((verdict.clone(), vec![*line]))),
        }
    }
    Walked::Back
}

fn fate(rules: &[(usize, Rule)], chain: usize, packet: &Packet) -> Fate<Verdict> {
    match walk(rules, chain, packet) {
        Walked::Done(fate) => fate,
        Walked::Back => None,
    }
}

fn text(rules: &[Rule]) -> (String, Vec<(usize, Rule)>) {
    let mut text = String::from("*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:one -\n:two -\n");
    let mut placed = Vec::new();
    for rule in rules {
        placed.push((text.lines().count() + 1, rule.clone()));
        text += &format!("-A {}", CHAINS[rule.chain]);
        for condition in &rule.conditions {
            let not = |not: &bool| if *not { " !" } else { "" };
            text += &match condition {
                Condition::Source(no, prefix) => format!("{} -s {prefix}", not(no)),
                Condition::Destination(no, prefix) => format!("{} -d {prefix}", not(no)),
                Condition::Device(no, name) => format!("{} -i {name}", not(no)),
                Condition::Port(no, first, last) => format!("{} --dport {first}:{last}", not(no)),
                Condition::Tcp => " -p tcp".to_owned(),
            };
        }
        text += &match &rule.verdict {
            Verdict::Send(to, None) => format!(" -j DNAT --to-destination {to}\n"),
            Verdict::Send(to, Some(port)) => format!(" -j DNAT --to-destination {to}:{port}\n"),
            Verdict::Redirect(port) => format!(" -j REDIRECT --to-ports {port}\n"),
            Verdict::Masquerade => " -j MASQUERADE\n".to_owned(),
            Verdict::From(address) => format!(" -j SNAT --to-source {address}\n"),
            Verdict::Accept => " -j ACCEPT\n".to_owned(),
            Verdict::Return => " -j RETURN\n".to_owned(),
            Verdict::Jump(called) => format!(" -j {}\n", CHAINS[*called]),
        };
    }
    (text + "COMMIT\n", placed)
}

fn said(imported: &Imported, lines: &[usize], words: &[&str]) -> bool {
    let places: Vec<String> = lines.iter().map(|line| format!("line {line}: ")).collect();
    let mut lines = imported.findings.lines();
    lines.any(|one| {
        places.iter().any(|place| one.starts_with(place))
            && words.iter().any(|word| one.contains(word))
    })
}

/// Whether a packet comes from somewhere else than the import has said its sender is.
fn is_astray(imported: &Imported, packet: &Packet) -> bool {
    let words: Vec<&str> = imported.findings.split_whitespace().collect();
    words.windows(4).any(|four| {
        let [prefix, "is", "behind", device] = four else {
            return false;
        };
        let prefix: IpNet = prefix.parse().expect("a prefix");
        prefix.contains(&IpAddr::V4(packet.source))
            && device.trim_matches([',', '.']) != packet.device
    })
}

/// The `[[forward]]` that takes a packet: an address before any, then a device before any.
fn listener<'a>(config: &'a Config, packet: &Packet) -> Option<&'a crate::config::Rule> {
    let rules = config.rules.iter().filter(|rule| {
        let protocol = match packet.protocol {
            Protocol::Tcp => rule.tcp,
            Protocol::Udp => rule.udp,
        };
        protocol
            && rule.listen.ports.contains(packet.port)
            && rule
                .listen
                .address
                .is_none_or(|one| one == packet.destination)
            && rule
                .interface
                .as_deref()
                .is_none_or(|one| one == packet.device)
    });
    rules.max_by_key(|rule| (rule.listen.address.is_some(), rule.interface.is_some()))
}

fn admits(rule: &crate::config::Rule, client: Ipv4Addr) -> bool {
    let client = IpAddr::V4(client);
    let in_any = |list: &[IpNet]| list.iter().any(|prefix| prefix.contains(&client));
    (rule.allow.is_empty() || in_any(&rule.allow)) && !in_any(&rule.deny)
}

fn judge_arrival(imported: &Imported, rules: &[(usize, Rule)], packet: &Packet) {
    let expected = fate(rules, 0, packet);
    let context = || format!("{packet:?}: {expected:?}\n{rules:?}\n{}", imported.text);
    let Some(rule) = listener(&imported.config, packet) else {
        if let Some((verdict, line)) = &expected {
            let nothing = matches!(verdict, Verdict::Redirect(port) if *port == packet.port)
                || matches!(verdict, Verdict::Send(to, port)
                    if *to == packet.destination && port.is_none_or(|port| port == packet.port));
            assert!(
                nothing || said(imported, line, &["not translated"]),
                "{}",
                context()
            );
        }
        return;
    };
    if !admits(rule, packet.source) {
        assert!(expected.is_none(), "kept out: {}", context());
        return;
    }
    let Some((verdict, _)) = &expected else {
        panic!("taken from others: {}", context());
    };
    let (address, port) = match verdict {
        Verdict::Redirect(port) => {
            let Target::Local(local) = rule.target else {
                panic!("not to this host: {}", context());
            };
            let local = crate::config::Backend {
                address: packet.destination.into(),
                port: local,
            };
            assert_eq!(
                local.port_for(rule.listen.ports, packet.port),
                *port,
                "{}",
                context()
            );
            return;
        }
        Verdict::Send(to, port) => (*to, port.unwrap_or(packet.port)),
        other => panic!("{other:?} for what arrives"),
    };
    match &rule.target {
        Target::Local(_) => assert_eq!(address, packet.destination, "{}", context()),
        Target::Backends(backends) => {
            let sent: Vec<_> = backends
                .iter()
                .map(|one| (one.address, one.port_for(rule.listen.ports, packet.port)))
                .collect();
            assert_eq!(sent, [(IpAddr::V4(address), port)], "{}", context());
            let leaving = Packet {
                destination: address,
                port,
                ..*packet
            };
            // A backend that is its own client is on its own subnet, whatever else is.
            if packet.source != address && !is_astray(imported, packet) {
                let fate = fate(rules, 3, &leaving);
                judge_source(imported, rule.source, fate, &context());
            }
        }
    }
}

fn judge_source(imported: &Imported, source: Source, expected: Fate<Verdict>, context: &str) {
    let wanted = match &expected {
        None => Source::Preserve,
        Some((Verdict::Masquerade, _)) => Source::Masquerade,
        Some((Verdict::From(address), _)) => {
            let address = IpAddr::V4(*address);
            Source::Pool {
                first: address,
                last: address,
            }
        }
        Some(other) => panic!("{other:?} for what leaves"),
    };
    if wanted != source {
        let words = [
            "done without a rule",
            "see the addresses of these",
            "translated so",
            "asks this destination directly",
        ];
        // Those whom the rule is not about may be treated like those whom it is.
        let told = match &expected {
            Some((_, line)) => said(imported, line, &words),
            None => imported.findings.contains("is translated so"),
        };
        assert!(told, "as {source}, not {wanted}: {expected:?}: {context}");
    }
}

fn judge_client(imported: &Imported, rules: &[(usize, Rule)], packet: &Packet) {
    if listener(&imported.config, packet).is_some() || fate(rules, 0, packet).is_some() {
        return;
    }
    let client = IpAddr::V4(packet.source);
    let longest = |interface: Option<&str>| {
        let rules = imported.config.masquerades.iter();
        let rules = rules.filter(|rule| rule.interface.as_deref() == interface);
        let holding = rules.flat_map(|rule| rule.from.iter().map(move |prefix| (prefix, rule)));
        let holding = holding.filter(|(prefix, _)| prefix.contains(&client));
        holding.max_by_key(|(prefix, _)| prefix.prefix_len())
    };
    let Some((prefix, rule)) = longest(Some(packet.device)).or(longest(None)) else {
        return;
    };
    // What clients of one prefix send to each other does not come by.
    if prefix.prefix_len() > 0 && prefix.contains(&IpAddr::V4(packet.destination)) {
        return;
    }
    let permitted = rule.ports.is_empty()
        || rule
            .ports
            .iter()
            .any(|one| one.protocol == packet.protocol && one.ports.contains(packet.port));
    if permitted {
        let context = format!("{packet:?} of a client\n{}", imported.text);
        judge_source(imported, rule.source, fate(rules, 3, packet), &context);
    }
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (1u8..3, 1u8..4).prop_map(|(net, host)| Ipv4Addr::new(10, 0, net, host))
}

fn condition(device: bool) -> impl Strategy<Value = Condition> {
    let prefix = || {
        (
            address(),
            prop_oneof![4 => Just(32u8), 2 => Just(30), 1 => Just(24), 1 => Just(0)],
        )
            .prop_map(|(address, length)| IpNet::new(address.into(), length).unwrap().trunc())
    };
    let not = || prop::bool::weighted(0.2);
    let device = if device { 3 } else { 0 };
    prop_oneof![
        2 => (not(), prefix()).prop_map(|(not, it)| Condition::Source(not, it)),
        3 => (not(), prefix()).prop_map(|(not, it)| Condition::Destination(not, it)),
        4 => (not(), 20u16..25, 0u16..3).prop_map(|(not, first, more)| Condition::Port(not, first, first + more)),
        1 => Just(Condition::Tcp),
        device => (not(), prop_oneof![Just("eth0"), Just("eth1")]).prop_map(|(not, it)| Condition::Device(not, it)),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let arriving = prop_oneof![
        5 => (address(), prop::option::of(20u16..25)).prop_map(|(to, port)| Verdict::Send(to, port)),
        1 => (20u16..25).prop_map(Verdict::Redirect),
        1 => Just(Verdict::Accept),
        1 => Just(Verdict::Return),
        2 => (1usize..3).prop_map(Verdict::Jump),
    ];
    let leaving = prop_oneof![
        3 => Just(Verdict::Masquerade),
        3 => address().prop_map(Verdict::From),
        1 => Just(Verdict::Accept),
    ];
    let arriving = (
        0usize..3,
        prop::collection::vec(condition(true), 0..4),
        arriving,
    );
    let leaving = (
        Just(3usize),
        prop::collection::vec(condition(false), 0..3),
        leaving,
    );
    prop_oneof![3 => arriving.boxed(), 1 => leaving.boxed()].prop_map(
        |(chain, conditions, verdict)| {
            let verdict = match verdict {
                Verdict::Jump(called) if called <= chain => Verdict::Accept,
                verdict => verdict,
            };
            Rule {
                chain,
                conditions,
                verdict,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_packet_goes_where_it_went(rules in prop::collection::vec(rule(), 1..9)) {
        let (text, rules) = text(&rules);
        let imported = match import_iptables(&text, &Hints::default()) {
            Ok(imported) => imported,
            Err(ImportError::Untranslatable { .. }) => return Ok(()),
            Err(error) => panic!("{error}\n{text}"),
        };
        let hosts = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3), (9, 9)].map(|(net, host)| Ipv4Addr::new(10, 0, net, host));
        for device in ["eth0", "eth1"] {
            for protocol in Protocol::ALL {
                for source in hosts {
                    for destination in hosts {
                        for port in [1, 20, 21, 22, 23, 24, 25, 26, 27, 65535] {
                            let packet = Packet { device, protocol, source, destination, port };
                            judge_arrival(&imported, &rules, &packet);
                            judge_client(&imported, &rules, &packet);
                        }
                    }
                }
            }
        }
    }
}
