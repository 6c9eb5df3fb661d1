//! `[[masquerade]]`: clients behind the gateway.

use std::collections::BTreeSet;

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, PSH, RST, SYN};
use tests::packet::{IcmpError, Packet};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::flows::{Tuple, decode};
use super::topology::Device;
use super::traffic::{Connection, syn, tcp, udp};

const RULE: &str =
    "[[masquerade]]\nname = \"lan\"\nfrom = [\"10.0.0.0/24\"]\ninterface = \"lan\"\n";
const PORTS: &str = "ports = [\"udp/53\", \"tcp/25\"]\n";
const CLIENT: &str = "10.0.0.2:25000";
const DNS: &str = "195.228.245.1:53";
const MAIL: &str = "195.228.245.1:25";
const OWN: &str = "203.0.113.1:25000";
/// Any addresses: [`Connection`] replaces them.
const ANY: &str = "192.0.2.99";

fn request(id: u16) -> Packet {
    Packet::echo_request(ANY, ANY, id, 1).with_payload(b"ping")
}

fn reply(id: u16) -> Packet {
    Packet::echo_reply(ANY, ANY, id, 1).with_payload(b"ping")
}

/// Opens a UDP flow; returns the connection with the port it got.
#[track_caller]
fn open(bench: &mut Bench, client: &str, server: &str) -> Connection {
    let guess = Connection::outbound(client, server, "203.0.113.1:1");
    let out = bench.passes_through(Device::Lan, &guess.request(udp()), Device::Wan);
    let source = Tuple::of(&decode(&out)).source;
    let connection = Connection {
        source: format!("203.0.113.1:{}", source.port()),
        ..guess
    };
    connection.send(bench, &udp());
    connection.answer(bench, &udp());
    connection
}

#[rstest]
#[case::some_ports(PORTS)]
#[case::all_ports("")]
fn clients_reach_what_they_may(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] ports: &str,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}{ports}"));
    let dns = Connection::outbound(CLIENT, DNS, OWN);
    dns.send(&mut bench, &udp());
    dns.answer(&mut bench, &udp());
    let mail = Connection::outbound(CLIENT, MAIL, OWN);
    mail.handshake(&mut bench);
    mail.send(&mut bench, &tcp(ACK | PSH));
    mail.answer(&mut bench, &tcp(ACK | PSH));
    bench.holds(&[&mail.described("ESTABLISHED"), &dns.described("STREAM")]);
    // Only replies come back in.
    for packet in [syn(), tcp(ACK)] {
        let packet = mail.reply(packet).with_source("195.228.245.2:25");
        bench.refuses(Device::Wan, &packet, Reason::NoRule);
    }
    let packet = dns.reply(udp()).with_source("195.228.245.1:54");
    bench.refuses(Device::Wan, &packet, Reason::NoRule);
}

#[rstest]
fn nothing_else_is_permitted(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}{PORTS}"));
    let to = |server| Connection::outbound(CLIENT, server, OWN);
    let gre = Packet::other(ANY, ANY, 47).with_payload(&[0; 40]);
    for packet in [
        to("195.228.245.1:54").request(udp()),
        to("195.228.245.1:53").request(syn()),
        to("195.228.245.1:25").request(udp()),
        to("195.228.245.1:80").request(syn()),
        to("195.228.245.1:80").request(tcp(ACK)),
        to(DNS).request(gre),
        to(DNS).request(reply(7)),
    ] {
        bench.refuses(Device::Lan, &packet, Reason::NotPermitted);
    }
    bench.holds(&[]);
    // An error of a client about what nobody sent it.
    let about = family.packet(&to(DNS).reply(udp()).with_destination(CLIENT));
    let client = family.text("10.0.0.2");
    let macs = (Device::Lan.neighbour(2), Device::Lan.mac());
    let error = Packet::error_about(&client, IcmpError::PortUnreachable, &about);
    bench.refuses(
        Device::Lan,
        &error.with_macs(macs.0, macs.1),
        Reason::IcmpNoFlow,
    );
}

/// What is for this host is its own affair, and so are other clients and other devices.
#[rstest]
fn what_is_no_business_of_the_rule(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}{PORTS}"));
    for server in [
        "10.0.0.1:80",
        "203.0.113.5:80",
        "203.0.113.5:53",
        "10.2.0.1:53",
    ] {
        let connection = Connection::outbound(CLIENT, server, OWN);
        for packet in [udp(), syn(), tcp(ACK), request(7)] {
            bench.refuses(Device::Lan, &connection.request(packet), Reason::NoRule);
        }
    }
    if family == Family::V4 {
        let broadcast = Connection::outbound(CLIENT, "10.0.0.255:67", OWN);
        bench.refuses(Device::Lan, &broadcast.request(udp()), Reason::NoRule);
    }
    for client in ["10.0.1.2:25000", "10.2.0.2:25000"] {
        let connection = Connection::outbound(client, DNS, OWN);
        bench.refuses(Device::Lan, &connection.request(udp()), Reason::NoRule);
    }
    let elsewhere = Connection {
        near: (Device::Alt, 2),
        ..Connection::outbound(CLIENT, DNS, OWN)
    };
    bench.refuses(Device::Alt, &elsewhere.request(udp()), Reason::NoRule);
    let stray = Connection::outbound(CLIENT, DNS, OWN).request(udp());
    let stray = stray.with_macs(Device::Lan.neighbour(2), [4; 6]);
    bench.refuses(Device::Lan, &stray, Reason::OtherHost);
    bench.holds(&[]);
}

/// The identifier is the port, kept if it is free.
#[rstest]
fn echoes(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}{PORTS}"));
    let first = Connection::outbound("10.0.0.2:7", "195.228.245.1:0", "203.0.113.1:7");
    for _ in 0..2 {
        first.send(&mut bench, &request(7));
        first.answer(&mut bench, &reply(7));
    }
    bench.holds(&[&first.described("STREAM")]);
    // The same identifier of another client.
    let guess = Connection::outbound("10.0.0.3:7", "195.228.245.1:0", "203.0.113.1:1");
    let out = bench.passes_through(Device::Lan, &guess.request(request(7)), Device::Wan);
    let id = Tuple::of(&decode(&out)).source.port();
    assert_ne!(id, 7);
    let sent = guess.request(request(7));
    bench.forwards(
        Device::Lan,
        &sent,
        Device::Wan,
        &guess.forwarded(request(id)),
    );
    let sent = guess.reply(reply(id));
    bench.forwards(Device::Wan, &sent, Device::Lan, &guess.returned(reply(7)));
    first.answer(&mut bench, &reply(7));
    // Nobody asked, and nobody asks from outside.
    for packet in [reply(8), request(7)] {
        bench.refuses(Device::Wan, &first.reply(packet), Reason::NoRule);
    }
}

/// RFC 4787 REQ-1 and REQ-3: one socket is one port, whomever it talks to, and no port is two clients'.
#[rstest]
fn one_socket_is_one_port(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let servers = ["195.228.245.1:53", "195.228.245.1:54", "195.228.246.9:53"];
    let mut taken = BTreeSet::new();
    for client in [
        "10.0.0.2:25000",
        "10.0.0.3:25000",
        "10.0.0.4:25000",
        "10.0.0.2:80",
    ] {
        // In another order each, so that it is not the first flow of a server that decides.
        let of_client: BTreeSet<_> = servers
            .iter()
            .cycle()
            .skip(taken.len())
            .take(servers.len())
            .map(|server| open(&mut bench, client, server).source)
            .collect();
        assert_eq!(of_client.len(), 1, "{client}: {of_client:?}");
        assert!(taken.is_disjoint(&of_client), "{of_client:?} twice");
        taken.extend(of_client);
    }
    assert!(taken.contains(OWN), "the first one keeps its own");
}

/// TCP's ports are counted by server: it is address and port dependent.
#[rstest]
fn segments_share_ports_between_servers(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    Connection::outbound(CLIENT, "195.228.245.1:25", OWN).handshake(&mut bench);
    Connection::outbound("10.0.0.3:25000", "195.228.245.2:25", OWN).handshake(&mut bench);
}

/// A client whose connection the gateway has forgotten is told at once.
#[rstest]
fn unknown_connections_are_reset(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}{PORTS}"));
    let connection = Connection::outbound(CLIENT, MAIL, OWN);
    for flags in [ACK, ACK | PSH, SYN | ACK] {
        let sent = connection.request(tcp(flags));
        let expected = bench.reset(&sent);
        bench.answers(Device::Lan, &sent, Reason::TcpNoFlow, &expected);
    }
    let sent = connection.request(tcp(RST));
    bench.refuses(Device::Lan, &sent, Reason::TcpNoFlow);
    bench.holds(&[]);
}

/// One client is one address (RFC 4787 REQ-2), and clients spread.
#[rstest]
fn a_pool(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let rule = format!("{RULE}source = \"203.0.113.254-203.0.114.1\"\n");
    let mut setup = super::bench::Setup::new(&rule);
    setup.sizes.flows = 128;
    let mut bench = Bench::with((hook, family), &setup);
    let mut sources = BTreeSet::new();
    for host in 2..34 {
        let client = format!("10.0.0.{host}:25000");
        let mut of_client = BTreeSet::new();
        for server in [DNS, "195.228.246.9:123"] {
            let connection = Connection::outbound(&client, server, OWN);
            let out = bench.passes_through(Device::Lan, &connection.request(udp()), Device::Wan);
            of_client.insert(Tuple::of(&decode(&out)).source);
        }
        assert_eq!(of_client.len(), 1, "client {host}: {of_client:?}");
        sources.extend(of_client.iter().map(|source| source.ip()));
    }
    assert_eq!(sources.len(), 4, "{sources:?}");
}
