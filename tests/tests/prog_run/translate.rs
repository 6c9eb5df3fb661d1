//! Addresses, ports, checksums, TTL and MACs of forwarded packets.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Checksum, IcmpError, Packet, tcp_flags};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, SERVER, syn, tcp, udp};

/// Port 110 of one address, TCP and UDP.
pub const RULE: &str = "[[forward]]\nname = \"pop3\"\nlisten = \"203.0.113.5:110\"\nto = \"10.0.0.2\"\n\
                        protocol = [\"tcp\", \"udp\"]\n";
const DATA: u8 = tcp_flags::ACK | tcp_flags::PSH;

#[rstest]
#[case::preserve("preserve", CLIENT)]
#[case::masquerade("masquerade", "10.0.0.1:25000")]
#[case::fixed("10.0.0.77", "10.0.0.77:25000")]
fn both_directions_are_translated(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] source: &str,
    #[case] seen: &str,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}source = \"{source}\"\n"));
    let connection = Connection::new(CLIENT, LISTENER, seen, SERVER);
    connection.handshake(&mut bench);
    connection.send(&mut bench, &tcp(DATA));
    connection.answer(&mut bench, &tcp(DATA));
    let tcp_flow = connection.described("ESTABLISHED");
    bench.holds(&[&tcp_flow]);

    connection.send(&mut bench, &udp());
    bench.holds(&[&tcp_flow, &connection.described("UNREPLIED")]);
    connection.answer(&mut bench, &udp());
    connection.send(&mut bench, &udp());
    bench.holds(&[&tcp_flow, &connection.described("STREAM")]);
}

/// The rule's counters and the flow's: packets, bytes, hook, and flows opened.
#[rstest]
fn what_is_forwarded_is_counted(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    connection.send(&mut bench, &tcp(DATA));
    let count = bench.datapath.rule_count("pop3").expect("reading a map");
    // The TCP header is 20 bytes, the SYN's options 12 more.
    let bare = u64::from(family.header()) + 20;
    let (syn, data) = (bare + 12, bare + super::traffic::PAYLOAD.len() as u64);
    assert_eq!(
        (count.original.packets, count.original.bytes),
        (3, syn + bare + data)
    );
    assert_eq!((count.reply.packets, count.reply.bytes), (1, bare));
    let by_hook = [count.xdp_packets, count.tc_packets];
    assert_eq!(by_hook[hook as usize], 4);
    assert_eq!(by_hook.iter().sum::<u64>(), 4);
    assert_eq!(count.opened, 1);

    let [flow] = bench.flows().try_into().expect("one flow");
    let (original, reply) = (flow.original_entry, flow.reply_entry);
    assert_eq!(
        (original.packets(), original.bytes),
        (3, syn + bare + data),
        "moving to the flow table keeps the counts"
    );
    assert_eq!((reply.packets(), reply.bytes), (1, bare));
}

#[rstest]
fn an_absent_udp_checksum_stays_absent(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = Bench::new(hook, &format!("{RULE}source = \"masquerade\"\n"));
    let connection = Connection::new(CLIENT, LISTENER, "10.0.0.1:25000", SERVER);
    let packet = udp().with_checksum(Checksum::Absent);
    connection.send(&mut bench, &packet);
    connection.answer(&mut bench, &packet);
}

/// A datagram whose checksum is 0xffff as `field` makes it: the sum that must never be sent as zero (RFC 768).
fn all_ones(family: Family, field: impl Fn(Packet) -> Packet) -> Packet {
    let candidate = |word: u16| udp().with_payload(&word.to_be_bytes());
    let at = 14 + family.header() as usize + 6;
    let sum = |packet: &Packet| {
        family.packet(&field(packet.clone())).to_bytes()[at..at + 2] == [0xff, 0xff]
    };
    (0..=u16::MAX)
        .map(candidate)
        .find(sum)
        .expect("one of 65536 sums is all ones")
}

#[rstest]
fn a_computed_zero_is_sent_as_all_ones(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values("preserve", "masquerade")] source: &str,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}source = \"{source}\"\n"));
    let seen = match source {
        "preserve" => CLIENT,
        _ => "10.0.0.1:25000",
    };
    let connection = Connection::new(CLIENT, LISTENER, seen, SERVER);
    // Of the packet that leaves, and of the one that arrives, in both directions.
    for packet in [
        all_ones(family, |packet| connection.forwarded(packet)),
        all_ones(family, |packet| connection.request(packet)),
    ] {
        connection.send(&mut bench, &packet);
    }
    for packet in [
        all_ones(family, |packet| connection.returned(packet)),
        all_ones(family, |packet| connection.reply(packet)),
    ] {
        connection.answer(&mut bench, &packet);
    }
}

/// A wrong checksum must stay wrong: the receiver has to notice, not be told that all is well.
#[rstest]
#[case::tcp(syn())]
#[case::udp(udp())]
fn a_wrong_checksum_is_not_repaired(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] packet: Packet,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    let sent = connection.request(packet.with_checksum(Checksum::Wire(0x1234)));
    let out = bench.passes_through(Device::Wan, &sent, Device::Lan);
    let faults = tests::packet::checksum::faults(&out);
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[rstest]
fn every_header_length_is_translated(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = Bench::new(hook, RULE);
    let connection = Connection::default();
    for words in 0..=10_u8 {
        // Distinct bytes, so that one out of place is seen; 1 is "no operation".
        let options: Vec<u8> = (0..words * 4)
            .map(|byte| if byte == 0 { 1 } else { byte })
            .collect();
        for packet in [syn(), udp(), tcp(tcp_flags::SYN).with_payload(b"odd")] {
            let packet = packet.with_ip_options(&options);
            connection.send(&mut bench, &packet);
        }
        connection.answer(&mut bench, &udp().with_ip_options(&options));
    }
}

/// What is not about addresses, ports, TTL and checksums passes as it is.
#[rstest]
fn other_fields_are_left_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    connection.send(&mut bench, &syn());
    let mut packet = tcp(tcp_flags::SYN | tcp_flags::ECE | tcp_flags::CWR | tcp_flags::URG);
    packet.tcp_mut().urgent = 0x7777;
    packet.tcp_mut().window = 1;
    let ip = packet.ipv4_mut();
    (ip.tos, ip.id, ip.dont_fragment) = (0xb9, 0xffff, false);
    connection.send(&mut bench, &packet);
    connection.send(&mut bench, &udp().with_payload(&[]).with_padding());
    let most = 1500 - family.header() as usize - 8;
    connection.send(&mut bench, &udp().with_payload(&vec![0xa5; most]));
    connection.answer(&mut bench, &udp().with_payload(&vec![0x5a; most - 1]));
}

#[rstest]
#[case::largest(255)]
#[case::least(2)]
fn the_ttl_is_counted_down(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] ttl: u8,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    let sent = connection.request(udp()).with_ttl(ttl);
    let expected = connection.forwarded(udp()).with_ttl(ttl - 1);
    bench.forwards(Device::Wan, &sent, Device::Lan, &expected);
    let sent = connection.reply(udp()).with_ttl(ttl);
    let expected = connection.returned(udp()).with_ttl(ttl - 1);
    bench.forwards(Device::Lan, &sent, Device::Wan, &expected);
}

#[rstest]
fn a_packet_at_its_last_hop_ends_here_and_opens_nothing(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(0, 1)] ttl: u8,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    for packet in [syn(), udp()] {
        let packet = connection.request(packet).with_ttl(ttl);
        let expected = bench.error(Device::Wan, IcmpError::TimeExceeded, &packet);
        bench.answers(Device::Wan, &packet, Reason::TtlExpired, &expected);
    }
    bench.holds(&[]);
    connection.send(&mut bench, &udp());
    for (device, packet) in [
        (Device::Wan, connection.request(udp())),
        (Device::Lan, connection.reply(udp())),
    ] {
        let packet = packet.with_ttl(ttl);
        let expected = bench.error(device, IcmpError::TimeExceeded, &packet);
        bench.answers(device, &packet, Reason::TtlExpired, &expected);
    }
    bench.holds(&[&connection.described("UNREPLIED")]);
}

/// In by one device and out by the same: the whole service on a single interface.
#[rstest]
fn out_by_the_interface_it_came_in_by(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let rule = "[[forward]]\nlisten = \"203.0.113.5:110\"\nto = \"195.228.245.1:2110\"\nsource = \"masquerade\"\n";
    let mut bench = Bench::new((hook, family), rule);
    let router = Device::Wan.neighbour(super::traffic::ROUTER);
    let other = Device::Wan.neighbour(77);
    let sent = Packet::syn(CLIENT, LISTENER).with_macs(other, Device::Wan.mac());
    let expected = Packet::syn("203.0.113.1:25000", "195.228.245.1:2110")
        .with_macs(Device::Wan.mac(), router)
        .with_ttl(63);
    bench.forwards(Device::Wan, &sent, Device::Wan, &expected);
    let flags = tcp_flags::SYN | tcp_flags::ACK;
    let sent = Packet::tcp("195.228.245.1:2110", "203.0.113.1:25000", flags)
        .with_macs(router, Device::Wan.mac());
    let expected = Packet::tcp(LISTENER, CLIENT, flags)
        .with_macs(Device::Wan.mac(), other)
        .with_ttl(63);
    bench.forwards(Device::Wan, &sent, Device::Wan, &expected);
}
