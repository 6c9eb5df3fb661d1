//! A configuration, written as netfilter's rules and read again, says what it said.

use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::prelude::*;

use super::super::clients::ClientSet;
use super::super::{Family, Hints, export_iptables, export_nft, import_iptables};
use crate::config::{self, Config, MssClamp, Target};

/// What a configuration says, one rule, protocol and prefix at a time, without names and order.
fn says(config: &Config) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let size = |clamp: Option<MssClamp>| clamp.map(|size| size.to_string());
    for rule in &config.rules {
        let to = match &rule.target {
            Target::Local(port) => {
                let whole = config::Backend {
                    address: "0.0.0.0".parse().unwrap(),
                    port: *port,
                };
                let ports = rule.listen.ports;
                let ends = [ports.first, ports.last].map(|one| whole.port_for(ports, one));
                format!("local {ends:?}")
            }
            Target::Backends(backends) => {
                let ports = rule.listen.ports;
                let of = |one: &config::Backend| {
                    let ends = [ports.first, ports.last].map(|port| one.port_for(ports, port));
                    format!("{} {ends:?}", one.address)
                };
                backends.iter().map(of).collect::<Vec<_>>().join(" or ")
            }
        };
        let clients = clients(rule);
        for (_, protocol) in [(rule.tcp, "tcp"), (rule.udp, "udp")]
            .into_iter()
            .filter(|one| one.0)
        {
            let clamp = size(rule.mss_clamp).filter(|_| protocol == "tcp");
            for (_, family) in [(rule.serves_v4(), "4"), (rule.serves_v6(), "6")]
                .into_iter()
                .filter(|one| one.0)
            {
                all.insert(format!(
                    "forward {protocol} {family} {:?} {} to {to} as {} for {clients} {clamp:?}",
                    rule.interface, rule.listen, rule.source
                ));
            }
        }
    }
    for rule in &config.masquerades {
        let ports: BTreeSet<String> = rule.ports.iter().map(ToString::to_string).collect();
        for prefix in &rule.from {
            all.insert(format!(
                "masquerade {prefix} {:?} {ports:?} as {} {:?}",
                rule.interface,
                rule.source,
                size(rule.mss_clamp)
            ));
        }
    }
    for rule in &config.outputs {
        let to = rule.backend.display(rule.ports);
        let ends =
            [rule.ports.first, rule.ports.last].map(|one| rule.backend.port_for(rule.ports, one));
        for (_, protocol) in [(rule.tcp, "tcp"), (rule.udp, "udp")]
            .into_iter()
            .filter(|one| one.0)
        {
            all.insert(format!(
                "output {protocol} {} {} to {} {ends:?}",
                rule.address,
                rule.ports,
                to.split(']').next().unwrap()
            ));
        }
    }
    all.insert(format!("ports {:?}", config.limits.ports));
    all
}

/// Who may use a rule, however it is written.
fn clients(rule: &config::Rule) -> String {
    let of = |family: Family| {
        let allow = ClientSet::new(family, &rule.allow);
        let allow = if allow.is_empty() {
            ClientSet::everybody(family)
        } else {
            allow
        };
        allow.subtract(&ClientSet::new(family, &rule.deny))
    };
    let served = [
        (rule.serves_v4(), Family::V4),
        (rule.serves_v6(), Family::V6),
    ];
    let served = served.into_iter().filter(|one| one.0);
    served
        .map(|(_, family)| format!("{:?} ", of(family).lists()))
        .collect()
}

/// Both files, one after the other.
fn exported(config: &Config) -> String {
    [Family::V4, Family::V6]
        .map(|family| export_iptables(config, family))
        .concat()
}

fn names(config: &Config) -> BTreeSet<&str> {
    let forwards = config.rules.iter().map(|rule| rule.name.as_str());
    forwards
        .chain(config.outputs.iter().map(|rule| rule.name.as_str()))
        .collect()
}

#[test]
fn the_examples() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let config = config::load(&path).unwrap();
        let text = exported(&config);
        let imported = import_iptables(&text, &Hints::default())
            .unwrap_or_else(|error| panic!("{}: {error}\n{text}", path.display()));
        assert_eq!(
            says(&imported.config),
            says(&config),
            "{}\n{text}",
            imported.text
        );
        assert!(
            names(&imported.config).is_superset(&names(&config)),
            "{}",
            imported.text
        );
        assert!(export_nft(&config).contains("table ip forwarder"));
        count += 1;
    }
    assert!(count >= 5);
}

fn forward(number: usize) -> impl Strategy<Value = String> {
    let listen = (prop::option::of(1u8..4), 1000u16..2000, 0u16..4);
    let to = prop_oneof![
        4 => (1u8..5, prop::option::of(2000u16..3000)).prop_map(|(host, port)| (vec![host], port)),
        2 => (1u8..5, 2u8..4, prop::option::of(2000u16..3000))
            .prop_map(|(host, more, port)| ((host..host + more).collect(), port)),
        1 => prop::option::of(2000u16..3000).prop_map(|port| (vec![1, 9, 4], port)),
    ];
    let source = prop_oneof![
        Just("preserve".to_owned()),
        Just("masquerade".to_owned()),
        Just("203.0.113.9".to_owned()),
        Just("203.0.113.20-203.0.113.23".to_owned()),
    ];
    let clients = prop_oneof![
        4 => Just(""),
        1 => Just("allow = [\"198.51.100.0/24\", \"192.0.2.7\"]"),
        1 => Just("deny = [\"198.51.100.64/26\"]"),
        1 => Just("allow = [\"198.51.100.0/24\"]\ndeny = [\"198.51.100.64/26\"]"),
    ];
    let protocol = prop_oneof![Just("\"tcp\""), Just("\"udp\""), Just("[\"tcp\", \"udp\"]")];
    let interface = prop::option::of(prop_oneof![Just("eth0"), Just("eth1")]);
    (listen, to, source, clients, protocol, interface).prop_map(
        move |((address, first, more), (hosts, port), source, clients, protocol, interface)| {
            // No two overlap: each has ports of its own.
            let first = first + 5000 * u16::try_from(number).unwrap() % 50_000;
            let address = address.map_or("*".to_owned(), |host| format!("203.0.113.{host}"));
            let ports = if more == 0 {
                first.to_string()
            } else {
                format!("{first}-{}", first + more)
            };
            let to: Vec<String> = hosts
                .iter()
                .map(|host| match port {
                    None => format!("\"10.{number}.0.{host}\""),
                    Some(port) if more == 0 => format!("\"10.{number}.0.{host}:{port}\""),
                    Some(port) => format!("\"10.{number}.0.{host}:{port}-{}\"", port + more),
                })
                .collect();
            let interface =
                interface.map_or(String::new(), |name| format!("interface = \"{name}\"\n"));
            format!(
                "[[forward]]\nname = \"rule \\\"{number}\\\"\"\nprotocol = {protocol}\n{interface}\
                 listen = \"{address}:{ports}\"\nto = [{}]\nsource = \"{source}\"\n{clients}\n",
                to.join(", ")
            )
        },
    )
}

fn masquerade(number: usize) -> impl Strategy<Value = String> {
    let ports = prop_oneof![
        Just(""),
        Just("ports = [\"tcp/25\", \"tcp/110\", \"udp/53\"]"),
        Just("ports = [\"udp\"]"),
        Just("ports = [\"tcp/1-1023\", \"udp/1024-2000\"]"),
    ];
    let source = prop_oneof![
        Just("masquerade"),
        Just("203.0.113.9"),
        Just("203.0.113.20-203.0.113.23")
    ];
    let interface = prop_oneof![Just(""), Just("interface = \"eth1\"")];
    (16u8..25, ports, source, interface).prop_map(move |(length, ports, source, interface)| {
        let prefix: IpNet = format!("172.{}.0.0/{length}", 16 + number).parse().unwrap();
        format!(
            "[[masquerade]]\nfrom = [\"{}\"]\nsource = \"{source}\"\n{ports}\n{interface}\n",
            prefix.trunc()
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_configuration(
        forwards in (forward(0), forward(1), forward(2)),
        masquerades in (masquerade(0), masquerade(1)),
        ports in prop_oneof![3 => Just(""), 1 => Just("[limits]\nsource-ports = \"1024-32767\"\n")],
    ) {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n{}{}{}{}{}\
             [[output]]\nto-address = \"192.0.2.7:25-26\"\nto = \"192.0.2.7:986-987\"\n{ports}",
            forwards.0, forwards.1, forwards.2, masquerades.0, masquerades.1
        );
        let config = config::parse("f.toml", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let rules = exported(&config);
        let imported = import_iptables(&rules, &Hints::default()).unwrap_or_else(|error| panic!("{error}\n{rules}"));
        prop_assert_eq!(says(&imported.config), says(&config), "{}\n{}", rules, imported.text);
    }
}
