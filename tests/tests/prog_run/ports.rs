//! Source ports.

use std::collections::BTreeSet;

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{IcmpError, Packet, assert_frame, tcp_flags};

use super::bench::{Bench, Hook, PORTS, Setup};
use super::family::Family;
use super::flows::{Tuple, decode};
use super::topology::Device;
use super::traffic::{Connection, LISTENER, SERVER, tcp, udp};
use super::translate::RULE;

const MASQUERADE: &str = "source = \"masquerade\"\n";

/// Opens a UDP flow of which only the source port is not known, and returns it with that port.
#[track_caller]
fn open(bench: &mut Bench, client: &str, listener: &str, source: &str) -> Connection {
    let guess = Connection::new(client, listener, &format!("{source}:1"), SERVER);
    let out = bench.passes_through(Device::Wan, &guess.request(udp()), Device::Lan);
    let found = Tuple::of(&decode(&out)).source;
    let connection = Connection {
        source: format!("{source}:{}", found.port()),
        ..guess
    };
    let expected = bench.family.packet(&connection.forwarded(udp()));
    assert_frame(&out, &expected);
    connection
}

/// Asserts that there is no port for a datagram of a client.
#[track_caller]
fn exhausted(bench: &mut Bench, packet: &Packet) {
    let expected = bench.error(Device::Wan, IcmpError::Prohibited, packet);
    bench.answers(Device::Wan, packet, Reason::PortsExhausted, &expected);
}

fn port(connection: &Connection) -> u16 {
    let (_, port) = connection.source.split_once(':').expect("ADDR:PORT");
    port.parse().expect("a port")
}

#[rstest]
fn two_clients_with_one_port_get_two(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values("masquerade", "10.0.0.77")] source: &str,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}source = {source:?}\n"));
    let address = match source {
        "masquerade" => "10.0.0.1",
        fixed => fixed,
    };
    let first = open(&mut bench, "198.51.100.7:25000", LISTENER, address);
    let second = open(&mut bench, "198.51.100.8:25000", LISTENER, address);
    assert_eq!(
        port(&first),
        25_000,
        "the client's own port is kept if it is free"
    );
    assert_ne!(port(&second), 25_000);
    assert!((PORTS.0..=PORTS.1).contains(&port(&second)));
    for connection in [&second, &first, &second] {
        connection.answer(&mut bench, &udp());
        connection.send(&mut bench, &udp());
    }
    bench.holds(&[&first.described("STREAM"), &second.described("STREAM")]);
}

/// Below the range lie the host's own services, above it its own connections.
#[rstest]
fn a_port_outside_the_range_is_not_kept(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(0, 1, 19_999, 30_000, 65_535)] own: u16,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}{MASQUERADE}"));
    let client = format!("198.51.100.7:{own}");
    let connection = open(&mut bench, &client, LISTENER, "10.0.0.1");
    assert!((PORTS.0..=PORTS.1).contains(&port(&connection)));
    connection.answer(&mut bench, &udp());
}

/// With the source preserved every port is the client's own affair.
#[rstest]
fn a_preserved_port_may_be_anything(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(1, 19_999, 65_535)] own: u16,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let client = format!("198.51.100.7:{own}");
    let connection = Connection::new(&client, LISTENER, &client, SERVER);
    connection.handshake(&mut bench);
    connection.send(&mut bench, &udp());
}

/// One client, one of its ports, two public addresses, one backend: the backend must see two connections.
#[rstest]
fn two_listeners_of_one_backend_do_not_collide(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &RULE.replace("203.0.113.5", "*"));
    let client = "198.51.100.7:25000";
    let first = open(&mut bench, client, "203.0.113.5:110", "198.51.100.7");
    let second = open(&mut bench, client, "203.0.113.6:110", "198.51.100.7");
    assert_eq!(port(&first), 25_000);
    assert_ne!(port(&second), 25_000);
    for connection in [&first, &second] {
        connection.answer(&mut bench, &udp());
        connection.send(&mut bench, &udp());
    }
}

/// The reserve is checked against both tables: a port of an established connection is not handed out again.
#[rstest]
fn a_port_of_an_established_connection_is_taken(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut setup = Setup::new(&format!("{RULE}{MASQUERADE}"));
    setup.ports = (25_000, 25_000);
    let mut bench = Bench::with((hook, family), &setup);
    let first = Connection::new("198.51.100.7:25000", LISTENER, "10.0.0.1:25000", SERVER);
    first.handshake(&mut bench);
    bench.counts(1, 0);
    let second = Connection::new("198.51.100.8:25000", LISTENER, "10.0.0.1:25000", SERVER);
    let packet = second.request(tcp(tcp_flags::SYN));
    let expected = bench.reset(&packet);
    bench.answers(Device::Wan, &packet, Reason::PortsExhausted, &expected);
    bench.counts(1, 0);
    first.answer(&mut bench, &tcp(tcp_flags::ACK));
    // Another protocol has ports of its own.
    second.send(&mut bench, &udp());
}

#[rstest]
#[case::one((25_000, 25_000), 1)]
#[case::two((20_000, 20_001), 2)]
#[case::a_hundred((20_000, 20_099), 100)]
fn ports_run_out(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] ports: (u16, u16),
    #[case] count: usize,
) {
    let mut setup = Setup::new(&format!("{RULE}{MASQUERADE}"));
    setup.ports = ports;
    setup.sizes.flows = 128;
    let mut bench = Bench::with((hook, family), &setup);
    let mut taken = BTreeSet::new();
    let mut connections = Vec::new();
    let mut refused = 0;
    for host in 0..count as u32 * 2 {
        let client = format!("198.51.{}.{}:40000", host / 250, host % 250);
        let wanted = Connection::new(&client, LISTENER, "10.0.0.1:1", SERVER);
        // The search is bounded, so the last free ports of many may be missed; none is ever given twice.
        if taken.len() == count || (count > 64 && taken.len() > count * 4 / 5) {
            if taken.len() == count {
                exhausted(&mut bench, &wanted.request(udp()));
                refused += 1;
            }
            continue;
        }
        let connection = open(&mut bench, &client, LISTENER, "10.0.0.1");
        assert!(
            taken.insert(port(&connection)),
            "{} twice",
            connection.source
        );
        assert!((ports.0..=ports.1).contains(&port(&connection)));
        connections.push(connection);
    }
    assert!(refused > 0 || count > 64);
    for connection in &connections {
        connection.answer(&mut bench, &udp());
    }
    let expected: Vec<_> = connections
        .iter()
        .map(|one| one.described("STREAM"))
        .collect();
    bench.holds(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}

/// As many connections by one address as ports, towards every backend.
#[rstest]
fn ports_are_counted_by_backend(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let other = RULE
        .replace("pop3", "other")
        .replace(":110", ":995")
        .replace("10.0.0.2", "10.0.0.3");
    let mut setup = Setup::new(&format!("{RULE}{MASQUERADE}{other}{MASQUERADE}"));
    setup.ports = (25_000, 25_000);
    let mut bench = Bench::with((hook, family), &setup);
    for (listener, backend) in [(LISTENER, SERVER), ("203.0.113.5:995", "10.0.0.3:995")] {
        let connection = Connection::new("198.51.100.7:25000", listener, "10.0.0.1:25000", backend);
        connection.send(&mut bench, &udp());
        connection.answer(&mut bench, &udp());
    }
}

#[rstest]
fn the_hosts_own_ports_are_left_out(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut setup = Setup::new(&format!("{RULE}{MASQUERADE}"));
    setup.ports = (20_000, 20_003);
    let mut bench = Bench::with((hook, family), &setup);
    let mut settings = bench.datapath.settings().expect("settings");
    (settings.local_first, settings.local_last) = (20_001, 20_002);
    bench.datapath.set_settings(settings).expect("settings");
    let mut taken = BTreeSet::new();
    for host in 1..=2 {
        // Its own port lies in the hole.
        let client = format!("198.51.100.{host}:20001");
        taken.insert(port(&open(&mut bench, &client, LISTENER, "10.0.0.1")));
    }
    assert_eq!(taken, BTreeSet::from([20_000, 20_003]));
    let third = Connection::new("198.51.100.3:20001", LISTENER, "10.0.0.1:1", SERVER);
    exhausted(&mut bench, &third.request(udp()));
}

/// One client is one address to the backend (RFC 4787 REQ-2), and clients spread.
#[rstest]
fn a_pool_gives_every_client_one_address(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let rule = format!("{RULE}source = \"10.0.0.254-10.0.1.1\"\n");
    let mut setup = Setup::new(&rule);
    setup.sizes.flows = 128;
    let mut bench = Bench::with((hook, family), &setup);
    let mut sources = BTreeSet::new();
    for host in 0..32 {
        let mut of_client = BTreeSet::new();
        for own in 25_000..25_003 {
            let wanted = Connection::new(
                &format!("198.51.100.{host}:{own}"),
                LISTENER,
                "10.0.0.1:1",
                SERVER,
            );
            let out = bench.passes_through(Device::Wan, &wanted.request(udp()), Device::Lan);
            of_client.insert(Tuple::of(&decode(&out)).source.ip());
        }
        assert_eq!(of_client.len(), 1, "client {host}: {of_client:?}");
        sources.extend(of_client);
    }
    let wanted = [
        [10, 0, 0, 254],
        [10, 0, 0, 255],
        [10, 0, 1, 0],
        [10, 0, 1, 1],
    ];
    let wanted = wanted.map(|octets| family.address(octets.into()));
    assert_eq!(sources, BTreeSet::from(wanted));
}
