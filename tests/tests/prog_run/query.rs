//! Proxies ask where their connections were going.

use std::net::{Ipv4Addr, SocketAddrV4};

use forwarder::config::OriginalDestination;
use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Checksum, Packet, Transport};

use super::bench::{Bench, Hook};
use super::topology::{self, Device};
use super::traffic::{CLIENT, Connection, LISTENER, SERVER};
use super::translate::RULE;

const SECRET: u32 = 0x1234_5678;
const PROXY: &str = "10.0.0.2:5555";
/// The gateway, where proxies ask that see it as their peer.
const HERE: &str = "10.0.0.1:114";
/// A field's bytes.
const SECRET_AT: usize = 8;
const FLAGS_AT: usize = 14;

fn gateway(hook: Hook, source: &str) -> Bench {
    let mut bench = Bench::new(hook, &format!("{RULE}source = \"{source}\"\n"));
    let wanted = OriginalDestination {
        proxies: vec![Ipv4Addr::new(10, 0, 0, 2)],
        port: 114,
        secret: SECRET,
    };
    let own = topology::addresses(&bench.links());
    let own = own.iter().map(|one| one.address);
    bench
        .datapath
        .set_queries(Some(&wanted), own)
        .expect("a map");
    bench
}

/// `52504844 ee91ec3b`, secret, version 4.2, query; then the tuple as the proxy sees it.
fn query(peer: &str, proxy: &str) -> Vec<u8> {
    let [peer, proxy] = [peer, proxy].map(|end| end.parse::<SocketAddrV4>().expect("an end"));
    let mut bytes = vec![0x52, 0x50, 0x48, 0x44, 0xee, 0x91, 0xec, 0x3b];
    bytes.extend(SECRET.to_be_bytes());
    bytes.extend([4, 2, 0, 1]);
    bytes.extend(peer.ip().octets());
    bytes.extend(proxy.ip().octets());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(proxy.port().to_be_bytes());
    bytes.resize(66, 0);
    bytes
}

/// What comes back for it, if the connection is one of `client` to `listener`.
fn answer(query: &[u8], client: &str, listener: &str) -> Vec<u8> {
    let [from, to] = [client, listener].map(|end| end.parse::<SocketAddrV4>().expect("an end"));
    let mut bytes = query[..FLAGS_AT].to_vec();
    bytes.extend([0, 0x12]);
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(from.ip().to_string().as_bytes());
    bytes.resize(66, 0);
    bytes
}

fn asked(to: &str, payload: &[u8]) -> Packet {
    Packet::udp(PROXY, to)
        .with_payload(payload)
        .with_macs(Device::Lan.neighbour(2), Device::Lan.mac())
        .with_ttl(17)
}

fn answered(to: &str, payload: &[u8]) -> Packet {
    Packet::udp(to, PROXY)
        .with_payload(payload)
        .with_macs(Device::Lan.mac(), Device::Lan.neighbour(2))
        .with_ttl(64)
}

/// The proxy asks whom it sees as its peer: the client itself, or the gateway.
#[rstest]
#[case::preserve("preserve", CLIENT, "198.51.100.7:114")]
#[case::masquerade("masquerade", "10.0.0.1:25000", HERE)]
fn a_proxy_learns_where_to(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] source: &str,
    #[case] seen: &str,
    #[case] peer: &str,
) {
    let mut bench = gateway(hook, source);
    let connection = Connection::new(CLIENT, LISTENER, seen, SERVER);
    let asks = query(seen, SERVER);
    // Not yet.
    let mut unknown = asks.clone();
    unknown[FLAGS_AT + 1] = 0x22;
    let packet = asked(peer, &asks);
    bench.answers(
        Device::Lan,
        &packet,
        Reason::QueryUnknown,
        &answered(peer, &unknown),
    );
    connection.handshake(&mut bench);
    let expected = answered(peer, &answer(&asks, CLIENT, LISTENER));
    bench.answers(Device::Lan, &packet, Reason::QueryAnswered, &expected);
    bench.holds(&[&connection.described("ESTABLISHED")]);
    // The other direction's tuple is no connection that the proxy has got.
    let turned = query(LISTENER, CLIENT);
    bench.refuses(Device::Lan, &asked(peer, &turned), Reason::QueryForeign);
}

/// A checksum that is not there stays away.
#[rstest]
fn without_a_checksum(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = gateway(hook, "masquerade");
    let seen = "10.0.0.1:25000";
    Connection::new(CLIENT, LISTENER, seen, SERVER).handshake(&mut bench);
    let bare = |mut packet: Packet| {
        if let Transport::Udp(udp) = &mut packet.transport {
            udp.checksum = Checksum::Absent;
        }
        packet
    };
    let asks = query(seen, SERVER);
    let expected = bare(answered(HERE, &answer(&asks, CLIENT, LISTENER)));
    let packet = bare(asked(HERE, &asks));
    bench.answers(Device::Lan, &packet, Reason::QueryAnswered, &expected);
}

/// Silence, each with its reason: every byte that is checked, changed in turn, and every other length.
#[rstest]
fn what_is_not_answered(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = gateway(hook, "masquerade");
    let seen = "10.0.0.1:25000";
    let connection = Connection::new(CLIENT, LISTENER, seen, SERVER);
    connection.handshake(&mut bench);
    let asks = query(seen, SERVER);
    for (bytes, reason) in [
        (0..4, Reason::QueryMalformed),
        (SECRET_AT..12, Reason::QuerySecret),
        (12..16, Reason::QueryMalformed),
        (20..24, Reason::QueryForeign),
    ] {
        for byte in bytes {
            let mut wrong = asks.clone();
            wrong[byte] ^= 0x40;
            bench.refuses(Device::Lan, &asked(HERE, &wrong), reason);
        }
    }
    for length in [0, 28, 65, 67, 1000] {
        let mut wrong = asks.clone();
        wrong.resize(length, 0);
        bench.refuses(Device::Lan, &asked(HERE, &wrong), Reason::QueryMalformed);
    }
    let stranger = asked(HERE, &asks).with_source("10.0.0.3:5555");
    bench.refuses(Device::Lan, &stranger, Reason::QueryStranger);
    // To others, and to other ports, it is none of ours.
    let elsewhere = stranger.clone().with_destination("198.51.100.9:114");
    bench.refuses(Device::Lan, &elsewhere, Reason::NoRule);
    let other_port = asked("10.0.0.1:115", &asks);
    bench.refuses(Device::Lan, &other_port, Reason::NoRule);
    let other_host = asked(HERE, &asks).with_macs(Device::Lan.neighbour(2), [2, 0, 0, 0, 9, 9]);
    bench.refuses(Device::Lan, &other_host, Reason::OtherHost);
    bench.holds(&[&connection.described("ESTABLISHED")]);
    // And without the table nobody is answered.
    bench
        .datapath
        .set_queries(None, [].into_iter())
        .expect("a map");
    bench.refuses(Device::Lan, &asked(HERE, &asks), Reason::NoRule);
}

/// A connection that the proxy itself makes through the gateway is not one that it has got.
#[rstest]
fn any_other_tuple_is_unknown(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = gateway(hook, "masquerade");
    let seen = "10.0.0.1:25000";
    Connection::new(CLIENT, LISTENER, seen, SERVER).handshake(&mut bench);
    for peer in ["10.0.0.1:25001", "10.0.0.3:25000", CLIENT] {
        let asks = query(peer, SERVER);
        let mut unknown = asks.clone();
        unknown[FLAGS_AT + 1] = 0x22;
        let expected = answered(HERE, &unknown);
        bench.answers(
            Device::Lan,
            &asked(HERE, &asks),
            Reason::QueryUnknown,
            &expected,
        );
    }
}
