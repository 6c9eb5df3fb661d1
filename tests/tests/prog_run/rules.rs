//! Which rule takes a packet, where it sends it, and whom it serves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use forwarder::datapath::Sizes;
use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Packet, tcp_flags};

use super::bench::{Bench, Hook, SMALL, Setup};
use super::family::Family;
use super::flows::{Tuple, decode};
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, ROUTER, tcp, udp};
use super::translate::RULE;

/// A packet of `client` to `listener` that came in by `device`.
pub fn arriving(device: Device, client: &str, listener: &str) -> Packet {
    Packet::udp(client, listener).with_macs(device.neighbour(ROUTER), device.mac())
}

/// Asserts where a packet leads.
#[track_caller]
fn leads(bench: &mut Bench, device: Device, client: &str, listener: &str, backend: &str) {
    let out = bench.passes_through(device, &arriving(device, client, listener), Device::Lan);
    let out = decode(&out);
    let found = Tuple::of(&out).destination.to_string();
    assert_eq!(found, bench.family.text(backend));
    assert_eq!(tests::packet::checksum::faults(&out.to_bytes()), []);
}

const PRECEDENCE: &str = r#"
[[forward]]
name = "anywhere"
protocol = "udp"
listen = "*:110"
to = "10.0.0.2:1"
[[forward]]
name = "address"
protocol = "udp"
listen = "203.0.113.5:110"
to = "10.0.0.2:2"
[[forward]]
name = "interface"
protocol = "udp"
interface = "alt"
listen = "*:110"
to = "10.0.0.2:3"
[[forward]]
name = "interface and address"
protocol = "udp"
interface = "alt"
listen = "203.0.113.5:110"
to = "10.0.0.2:4"
[[forward]]
name = "interface only"
protocol = "udp"
interface = "alt"
listen = "203.0.113.6:995"
to = "10.0.0.2:5"
[[forward]]
name = "tcp"
protocol = "tcp"
listen = "203.0.113.5:110"
to = "10.0.0.2:6"
"#;

#[rstest]
#[case::any_address(Device::Wan, "203.0.113.6:110", 1, "anywhere")]
#[case::no_own_address(Device::Wan, "192.0.2.200:110", 1, "anywhere")]
#[case::address(Device::Wan, "203.0.113.5:110", 2, "address")]
#[case::interface(Device::Alt, "203.0.113.6:110", 3, "interface")]
#[case::interface_and_address(Device::Alt, "203.0.113.5:110", 4, "interface and address")]
#[case::interface_only(Device::Alt, "203.0.113.6:995", 5, "interface only")]
fn the_more_specific_rule_wins(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] device: Device,
    #[case] listener: &str,
    #[case] port: u16,
    #[case] name: &str,
) {
    let mut bench = Bench::new((hook, family), PRECEDENCE);
    leads(
        &mut bench,
        device,
        CLIENT,
        listener,
        &format!("10.0.0.2:{port}"),
    );
    let opened = bench.datapath.rule_names().into_values().map(|rule| {
        let count = bench.datapath.rule_count(&rule).expect("reading a map");
        (rule, count.opened)
    });
    for (rule, opened) in opened.collect::<BTreeMap<_, _>>() {
        assert_eq!(opened, u64::from(rule == name), "{rule}");
    }
}

#[rstest]
#[case::other_interface(Device::Wan, "203.0.113.6:995")]
#[case::other_port(Device::Wan, "203.0.113.5:111")]
#[case::port_with_the_bytes_swapped(Device::Wan, "203.0.113.5:28160")]
fn no_rule(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] device: Device,
    #[case] listener: &str,
) {
    let mut bench = Bench::new((hook, family), PRECEDENCE);
    let packet = arriving(device, CLIENT, listener);
    bench.refuses(device, &packet, Reason::NoRule);
    let segment = Packet::tcp(CLIENT, listener, tcp_flags::ACK)
        .with_macs(device.neighbour(ROUTER), device.mac());
    bench.refuses(device, &segment, Reason::NoRule);
}

const RANGES: &str = r#"
[[forward]]
name = "shifted"
protocol = "udp"
listen = "203.0.113.5:1001-1013"
to = "10.0.0.2:2000-2012"
[[forward]]
name = "same"
protocol = "udp"
listen = "203.0.113.5:3000-3006"
to = "10.0.0.3"
[[forward]]
name = "one"
protocol = "udp"
listen = "*:4095-4161"
to = "10.0.0.4:5000"
[[forward]]
name = "last"
protocol = "udp"
listen = "203.0.113.5:65500-65535"
to = "10.0.0.2:1-36"
"#;

#[rstest]
#[case::shifted(1001..=1013, |port| format!("10.0.0.2:{}", port - 1001 + 2000))]
#[case::same(3000..=3006, |port| format!("10.0.0.3:{port}"))]
#[case::one(4095..=4161, |_| "10.0.0.4:5000".to_owned())]
#[case::last(65500..=65535, |port| format!("10.0.0.2:{}", port - 65500 + 1))]
fn every_port_of_a_range(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] ports: std::ops::RangeInclusive<u16>,
    #[case] backend: fn(u16) -> String,
) {
    let mut setup = Setup::new(RANGES);
    setup.sizes = Sizes {
        flows: 128,
        ..SMALL
    };
    let mut bench = Bench::with((hook, family), &setup);
    for port in ports.clone() {
        let listener = format!("203.0.113.5:{port}");
        // One client port each, so that many listener ports can lead to one backend port.
        let client = format!("198.51.100.7:{}", 20_000 + u32::from(port) % 5000);
        leads(&mut bench, Device::Wan, &client, &listener, &backend(port));
    }
    let outside = [ports.start().checked_sub(1), ports.end().checked_add(1)];
    for port in outside.into_iter().flatten() {
        let packet = arriving(Device::Wan, CLIENT, &format!("203.0.113.5:{port}"));
        bench.refuses(Device::Wan, &packet, Reason::NoRule);
    }
}

#[rstest]
fn flows_spread_over_a_list(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let rule = RULE.replace(
        "\"10.0.0.2\"",
        "[\"10.0.0.2\", \"10.0.0.3\", \"10.0.0.4:1110\"]",
    );
    let mut setup = Setup::new(&rule);
    setup.sizes = Sizes {
        flows: 512,
        ..SMALL
    };
    let mut bench = Bench::with((hook, family), &setup);
    let mut taken: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for number in 0..300_u32 {
        // Consecutive ports of few clients: what a digest is most likely to fail on.
        let client = format!("198.51.100.{}:{}", number / 100, 20_000 + number % 100);
        let packet = arriving(Device::Wan, &client, LISTENER);
        let first = bench.passes_through(Device::Wan, &packet, Device::Lan);
        let again = bench.passes_through(Device::Wan, &packet, Device::Lan);
        assert_eq!(first, again, "a flow keeps its backend");
        let out = decode(&first);
        let destination = Tuple::of(&out).destination;
        let host = match destination.ip() {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        assert_eq!(out.ethernet.destination, Device::Lan.neighbour(host));
        taken
            .entry(destination.to_string())
            .or_default()
            .push(client);
    }
    let names: Vec<_> = taken.keys().map(String::as_str).collect();
    let wanted = ["10.0.0.2:110", "10.0.0.3:110", "10.0.0.4:1110"];
    assert_eq!(names, wanted.map(|name| family.text(name)));
    for (backend, clients) in taken {
        assert!(
            (60..=140).contains(&clients.len()),
            "{backend}: {}",
            clients.len()
        );
    }
}

#[rstest]
#[case::allowed(ALLOW, "198.51.100.7", true)]
#[case::first_of_the_prefix(ALLOW, "198.51.100.0", true)]
#[case::last_of_the_prefix(ALLOW, "198.51.100.255", true)]
#[case::single(ALLOW, "203.0.113.77", true)]
#[case::beside_the_single(ALLOW, "203.0.113.78", false)]
#[case::before_the_prefix(ALLOW, "198.51.99.255", false)]
#[case::behind_the_prefix(ALLOW, "198.51.101.0", false)]
#[case::denied(DENY, "198.51.100.7", false)]
#[case::not_denied(DENY, "198.51.101.7", true)]
#[case::allowed_of_both(BOTH, "198.51.100.7", true)]
#[case::denied_of_both(BOTH, "198.51.100.65", false)]
#[case::in_neither(BOTH, "192.0.2.77", false)]
#[case::allowed_within_denied(INSIDE, "198.51.100.70", false)]
fn clients(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] lists: &str,
    #[case] client: &str,
    #[case] served: bool,
) {
    // The other rule's lists must not matter.
    let other = RULE
        .replace("pop3", "other")
        .replace(":110", ":995")
        .replace("10.0.0.2", "10.0.0.3");
    let rules = format!("{RULE}{lists}{other}deny = [\"0.0.0.0/0\"]\n");
    let mut bench = Bench::new((hook, family), &rules);
    let connection = Connection {
        client: format!("{client}:25000"),
        source: format!("{client}:25000"),
        ..Connection::default()
    };
    for packet in [tcp(tcp_flags::SYN), udp()] {
        if served {
            connection.send(&mut bench, &packet);
        } else {
            let packet = connection.request(packet);
            bench.refuses(Device::Wan, &packet, Reason::ClientRefused);
        }
    }
    let elsewhere = Connection {
        listener: "203.0.113.5:995".to_owned(),
        ..connection
    };
    let packet = elsewhere.request(udp());
    bench.refuses(Device::Wan, &packet, Reason::ClientRefused);
    assert_eq!(bench.flows().is_empty(), !served);
}

const ALLOW: &str = "allow = [\"198.51.100.0/24\", \"203.0.113.77\"]\n";
const DENY: &str = "deny = [\"198.51.100.0/24\"]\n";
const BOTH: &str = "allow = [\"198.51.100.0/24\"]\ndeny = [\"198.51.100.64/26\"]\n";
const INSIDE: &str = "allow = [\"198.51.100.64/28\"]\ndeny = [\"198.51.100.0/24\"]\n";
