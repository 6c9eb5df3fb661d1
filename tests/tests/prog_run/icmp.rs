//! ICMP errors about packets of flows: translated, with the packet in them, and sent to whom they concern.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, PSH};
use tests::packet::{IcmpError, Packet, assert_frame};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, SERVER, syn, tcp, udp};
use super::translate::RULE;

/// A router of the LAN, and one of the Internet.
const INSIDE: &str = "10.0.0.254";
/// See [`INSIDE`].
const OUTSIDE: &str = "198.51.100.1";

/// A gateway with open flows.
fn open(hook: Hook, family: Family, source: &str) -> (Bench, Connection) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}source = {source:?}\n"));
    let seen = match source {
        "preserve" => CLIENT,
        _ => "10.0.0.1:25000",
    };
    let connection = Connection::new(CLIENT, LISTENER, seen, SERVER);
    connection.handshake(&mut bench);
    connection.send(&mut bench, &udp());
    (bench, connection)
}

/// The error of `reporter` about `packet`, which quotes `length` bytes if given.
fn error(
    family: Family,
    reporter: &str,
    error: IcmpError,
    packet: &Packet,
    length: Option<usize>,
) -> Packet {
    let reporter = family.text(reporter);
    let mut built = Packet::error_about(&reporter, error, &family.packet(packet));
    built.payload.truncate(length.unwrap_or(usize::MAX));
    built
}

/// Runs an error through the gateway.
#[track_caller]
fn translates(bench: &mut Bench, from: Device, sent: &Packet, expected: &Packet) {
    let out = bench.leaves(from, sent);
    assert_frame(&out, expected);
}

/// An error about what was sent to the backend, and one about what was sent to the client.
#[track_caller]
fn both_ways(
    bench: &mut Bench,
    connection: &Connection,
    kind: IcmpError,
    packet: &Packet,
    length: Option<usize>,
) {
    let family = bench.family;
    let make = |reporter: &str, about: &Packet| error(family, reporter, kind, about, length);
    let address = |end: &str| end.split_once(':').expect("ADDR:PORT").0.to_owned();

    // As it left, and as it looks to the client; nothing inside is to be seen there.
    let (left, came) = (
        connection.forwarded(packet.clone()),
        connection.request(packet.clone()).with_ttl(63),
    );
    let sent = make(INSIDE, &left);
    let sent = sent.with_macs(Device::Lan.neighbour(2), Device::Lan.mac());
    let (from, to) = (Device::Wan.mac(), Device::Wan.neighbour(254));
    let expected = make(&address(LISTENER), &came)
        .with_ttl(63)
        .with_macs(from, to);
    translates(bench, Device::Lan, &sent, &expected);

    // The other direction; the reporter stays seen where the client does.
    let (left, came) = (
        connection.returned(packet.clone()),
        connection.reply(packet.clone()).with_ttl(63),
    );
    let sent = make(OUTSIDE, &left).with_macs(to, from);
    let reporter = if connection.source == connection.client {
        OUTSIDE.to_owned()
    } else {
        address(&connection.source)
    };
    let (from, to) = (Device::Lan.mac(), Device::Lan.neighbour(2));
    let expected = make(&reporter, &came).with_ttl(63).with_macs(from, to);
    translates(bench, Device::Wan, &sent, &expected);
}

#[rstest]
fn errors_are_translated(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values("preserve", "masquerade")] source: &str,
) {
    let (mut bench, connection) = open(hook, family, source);
    for kind in [
        IcmpError::HostUnreachable,
        IcmpError::PortUnreachable,
        IcmpError::Prohibited,
        IcmpError::TooBig(1400),
        IcmpError::TimeExceeded,
        IcmpError::ParameterProblem(0),
    ] {
        for packet in [udp(), tcp(ACK | PSH), syn()] {
            both_ways(&mut bench, &connection, kind, &packet, None);
        }
    }
    // An error changes no state.
    bench.holds(&[
        &connection.described("ESTABLISHED"),
        &connection.described("UNREPLIED"),
    ]);
}

/// From eight bytes of the transport header (RFC 792) to more than the error may hold, odd lengths too.
#[rstest]
fn quotes_of_any_length(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, connection) = open(hook, family, "masquerade");
    let data: Vec<u8> = (0..1400).map(|at| at as u8).collect();
    let header = family.header() as usize;
    for packet in [udp(), tcp(ACK | PSH)] {
        let packet = packet.with_payload(&data);
        // Half a checksum, as 17 bytes of TCP have it, cannot be right.
        for behind in [8, 9, 15, 16, 18, 20, 101, 1000] {
            let length = Some(header + behind);
            let kind = IcmpError::PortUnreachable;
            both_ways(&mut bench, &connection, kind, &packet, length);
        }
    }
}

/// What follows the packet in its frame is not part of the quote, though the TCP checksum would be there.
#[rstest]
fn a_trailer_is_left_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, connection) = open(hook, family, "masquerade");
    let kind = IcmpError::PortUnreachable;
    let length = Some(family.header() as usize + 8);
    let make = |reporter: &str, about: &Packet| {
        let mut packet = error(family, reporter, kind, about, length);
        packet.trailer = vec![0xee; 20];
        packet
    };
    let about = connection.forwarded(tcp(ACK));
    let sent = make(INSIDE, &about).with_macs(Device::Lan.neighbour(2), Device::Lan.mac());
    let about = connection.request(tcp(ACK)).with_ttl(63);
    let expected = make("203.0.113.5", &about).with_ttl(63);
    let expected = expected.with_macs(Device::Wan.mac(), Device::Wan.neighbour(254));
    translates(&mut bench, Device::Lan, &sent, &expected);
    let mut cut = sent;
    cut.payload.truncate(family.header() as usize + 7);
    bench.refuses(Device::Lan, &cut, Reason::Malformed);
}

/// A datagram without checksum has none in the quote either.
#[rstest]
fn an_absent_checksum_stays_absent(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let (mut bench, connection) = open(hook, Family::V4, "masquerade");
    let packet = udp().with_checksum(tests::packet::Checksum::Absent);
    let kind = IcmpError::PortUnreachable;
    both_ways(&mut bench, &connection, kind, &packet, None);
}

/// IPv4 options of the packet in question are quoted.
#[rstest]
fn options_in_the_quote(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let (mut bench, connection) = open(hook, Family::V4, "masquerade");
    for words in [1, 10] {
        let packet = udp().with_ip_options(&vec![1; words * 4]);
        let kind = IcmpError::PortUnreachable;
        both_ways(&mut bench, &connection, kind, &packet, None);
    }
}

/// About a packet that a rule would have made a flow for, but there is none: nobody else can have sent it.
#[rstest]
fn an_error_about_no_flow(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, connection) = open(hook, family, "preserve");
    let other = Connection {
        client: "198.51.100.8:25000".to_owned(),
        ..connection
    };
    let about = other.returned(udp());
    let kind = IcmpError::PortUnreachable;
    let sent = error(family, OUTSIDE, kind, &about, None);
    let sent = sent.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
    bench.refuses(Device::Wan, &sent, Reason::IcmpNoFlow);
}

/// What this host or somebody else sent is their affair: another port, and protocols that nobody translates.
#[rstest]
fn a_foreign_error_is_left_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, connection) = open(hook, family, "preserve");
    let other = Connection {
        listener: "203.0.113.5:111".to_owned(),
        ..connection.clone()
    };
    let gre = Packet::other("203.0.113.5", "198.51.100.7", 47).with_payload(&[0; 40]);
    let later = udp().with_payload(&[0; 64]);
    let later = family
        .packet(&connection.returned(later))
        .fragment(7, 32..72);
    let nested = error(
        family,
        "203.0.113.5",
        IcmpError::TimeExceeded,
        &connection.request(udp()),
        None,
    );
    for about in [other.returned(udp()), gre, later, nested] {
        let kind = IcmpError::TooBig(1400);
        let sent = error(family, OUTSIDE, kind, &about, None);
        let sent = sent.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
        bench.refuses(Device::Wan, &sent, Reason::NoRule);
    }
}

/// No errors about errors (RFC 1122 section 3.2.2), and none for other hosts.
#[rstest]
fn an_error_that_goes_no_further(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let (mut bench, connection) = open(hook, family, "preserve");
    let about = connection.returned(udp());
    let sent = error(family, OUTSIDE, IcmpError::PortUnreachable, &about, None);
    let (router, own) = (Device::Wan.neighbour(254), Device::Wan.mac());
    let last = sent.clone().with_macs(router, own).with_ttl(1);
    bench.refuses(Device::Wan, &last, Reason::TtlExpired);
    let stray = sent.clone().with_macs(router, [4; 6]);
    bench.refuses(Device::Wan, &stray, Reason::OtherHost);
    // Cut short within the quoted headers.
    for length in [0, 8, 19, family.header() as usize + 7] {
        let mut cut = sent.clone().with_macs(router, own);
        cut.payload.truncate(length);
        bench.refuses(Device::Wan, &cut, Reason::Malformed);
    }
}
