//! What is not translated: passed or dropped untouched, and counted once.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Checksum, Extension, Packet, Transport, tcp_flags};

use super::bench::{Bench, Hook};
use super::counted::Counted;
use super::family::Family;
use super::flows::decode;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, syn, tcp, udp};
use super::translate::RULE;

/// A valid request with the bytes at an offset of the frame replaced.
fn patched(packet: Packet, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Connection::default().request(packet).to_bytes();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn to(packet: Packet) -> Vec<u8> {
    packet
        .with_macs(Device::Wan.neighbour(254), Device::Wan.mac())
        .to_bytes()
}

fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(Device::Wan.neighbour(254));
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(60, 0);
    frame
}

#[rstest]
#[case::arp(arp(), Reason::NotIp)]
#[case::ipv6(
    to(Packet::udp("[2001:db8::7]:1", "[2001:db8::5]:110")),
    Reason::NoRule
)]
#[case::vlan(to(Packet::syn(CLIENT, LISTENER).with_vlan(7)), Reason::ForeignVlan)]
#[case::icmp(
    to(Packet::echo_request("198.51.100.7", "203.0.113.5", 1, 1)),
    Reason::NoRule
)]
#[case::icmp_timestamp(to(Packet::icmp("198.51.100.7", "203.0.113.5", 13, 0, [0; 4])), Reason::NotTransport)]
#[case::gre(to(Packet::other("198.51.100.7", "203.0.113.5", 47).with_payload(&[0; 64])), Reason::NotTransport)]
#[case::multicast(to(Packet::udp(CLIENT, "224.0.0.251:110")), Reason::NotUnicast)]
#[case::broadcast(to(Packet::udp(CLIENT, "255.255.255.255:110")), Reason::NotUnicast)]
#[case::version_6_inside(patched(syn(), 14, &[0x65]), Reason::Malformed)]
#[case::header_of_16_bytes(patched(syn(), 14, &[0x44]), Reason::Malformed)]
#[case::header_beyond_the_packet(patched(udp().with_payload(&[]), 14, &[0x4f]), Reason::Malformed)]
#[case::longer_than_the_frame(patched(udp(), 16, &[0xff, 0xff]), Reason::Malformed)]
#[case::shorter_than_its_header(patched(udp(), 16, &[0, 19]), Reason::Malformed)]
#[case::no_transport_header(patched(udp(), 16, &[0, 27]), Reason::Malformed)]
#[case::udp_length_too_small(patched(udp(), 38, &[0, 7]), Reason::Malformed)]
#[case::udp_length_too_large(patched(udp(), 38, &[0, 20]), Reason::Malformed)]
#[case::tcp_header_of_16_bytes(patched(syn(), 46, &[0x40]), Reason::Malformed)]
#[case::tcp_header_beyond_the_packet(patched(syn(), 46, &[0xf0]), Reason::Malformed)]
fn passed_untouched(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] frame: Vec<u8>,
    #[case] reason: Reason,
) {
    let mut bench = Bench::new(hook, RULE);
    bench.refuses_frame(Device::Wan, &frame, reason);
    // A flow of the same tuple changes nothing.
    let connection = Connection::default();
    connection.handshake(&mut bench);
    connection.send(&mut bench, &udp());
    bench.refuses_frame(Device::Wan, &frame, reason);
    bench.holds(&[
        &connection.described("ESTABLISHED"),
        &connection.described("UNREPLIED"),
    ]);
}

/// A backend that speaks first, or after its flow has expired, is nobody's reply.
#[rstest]
fn a_reply_without_flow(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    for packet in [tcp(tcp_flags::SYN | tcp_flags::ACK), syn(), udp()] {
        bench.refuses(Device::Lan, &connection.reply(packet), Reason::NoRule);
    }
    // One that belongs to another port, address or protocol of the same backend is none either.
    connection.send(&mut bench, &udp());
    bench.refuses(Device::Lan, &connection.reply(syn()), Reason::NoRule);
    for (source, destination) in [
        ("10.0.0.2:111", CLIENT),
        ("10.0.0.3:110", CLIENT),
        ("10.0.0.2:110", "198.51.100.7:25001"),
        ("10.0.0.2:110", "198.51.100.8:25000"),
    ] {
        let packet = connection.reply(udp());
        let packet = packet.with_source(source).with_destination(destination);
        bench.refuses(Device::Lan, &packet, Reason::NoRule);
    }
    bench.holds(&[&connection.described("UNREPLIED")]);
}

/// A tuple that is its own reply cannot have two directions, and leaves nothing behind.
#[rstest]
fn a_packet_from_its_own_destination(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &RULE.replace("203.0.113.5", "*"));
    for packet in [syn(), udp()] {
        let packet = Connection::default().request(packet);
        let packet = packet
            .with_source("10.0.0.2:110")
            .with_destination("10.0.0.2:110");
        bench.refuses(Device::Wan, &packet, Reason::Raced);
    }
    bench.counts(0, 0);
}

/// Cut at every byte: by a frame shorter than the IP header says, and by an IP header that says so.
#[rstest]
#[case::tcp(syn())]
#[case::udp(udp())]
#[case::options(tcp(tcp_flags::SYN).with_ip_options(&[1; 40]))]
fn every_length(#[values(Hook::Xdp, Hook::Tc)] hook: Hook, #[case] packet: Packet) {
    let mut bench = Bench::new(hook, RULE);
    let packet = Connection::default().request(packet);
    let frame = packet.to_bytes();
    let headers = frame.len() - packet.payload.len();
    let mut ran = 0;
    for length in 0..frame.len() {
        let cut = &frame[..length];
        let mut honest = cut.to_vec();
        if length >= 18 {
            let stated = u16::try_from(length - 14).expect("a short packet");
            honest[16..18].copy_from_slice(&stated.to_be_bytes());
        }
        // The kernel's test run takes no frame without Ethernet header, on TC none without IP header either.
        if bench.try_run(Device::Wan, cut).is_err() {
            assert!(length < 34, "{length} bytes are refused by the test run");
            continue;
        }
        ran += 1;
        bench.refuses_frame(Device::Wan, cut, Reason::Malformed);
        // Without its payload a TCP segment is one still, if with a wrong checksum.
        if length < headers {
            bench.refuses_frame(Device::Wan, &honest, Reason::Malformed);
        }
    }
    assert!(ran >= frame.len() - 34);
    bench.holds(&[]);
}

/// A generator of Numerical Recipes: the same packets in every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }
}

/// What is to be garbled.
pub fn seeds(connection: &Connection, family: Family) -> [Vec<u8>; 4] {
    let last = match family {
        Family::V4 => connection.request(udp().with_ip_options(&[1; 8])),
        Family::V6 => family
            .packet(&connection.request(udp()))
            .with_extension(Extension::destination()),
    };
    [
        connection.request(syn()),
        connection.request(udp()),
        connection.reply(tcp(tcp_flags::ACK | tcp_flags::PSH)),
        last,
    ]
    .map(|packet| family.packet(&packet).to_bytes())
}

/// Whatever bytes come: a packet is forwarded and counted so, answered, or leaves unchanged; for one reason.
#[rstest]
fn garbled_packets(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    let seeds = seeds(&connection, family);
    let mut random = Random(hook as u64);
    let mut forwarded = 0;
    for _ in 0..3000 {
        let mut frame = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(3) {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        let device = [Device::Wan, Device::Lan][random.below(2)];
        let before = bench.counted();
        let Ok(run) = bench.try_run(device, &frame) else {
            continue;
        };
        let after = bench.counted();
        let reasons = changed(&before, &after);
        let hops = 14 + if family == Family::V4 { 8 } else { 7 };
        match reasons[..] {
            [] => {
                assert_eq!(
                    after.packets.iter().sum::<u64>(),
                    before.packets.iter().sum::<u64>() + 1
                );
                assert_eq!(run.packet.len(), frame.len());
                assert_eq!(run.packet[hops], frame[hops] - 1, "TTL");
                forwarded += 1;
            }
            ["ttl-expired" | "too-big"] => answered(&run.packet),
            // Metadata stands in front of what is handed over.
            ["fragment-early"] if hook == Hook::Xdp => assert_eq!(run.packet[4..], frame),
            [_] => assert_eq!(run.packet, frame, "{reasons:?}"),
            _ => panic!("counted twice: {reasons:?}"),
        }
    }
    assert!(forwarded > 300, "{forwarded} of 3000 forwarded");
}

/// Asserts that a frame is an ICMP error. What it quotes may have wrong checksums.
fn answered(frame: &[u8]) {
    let packet = decode(frame);
    assert!(packet.quote().is_ok(), "{packet:?}");
    let Transport::Icmp(icmp) = &packet.transport else {
        unreachable!("it has a quote");
    };
    assert_eq!(icmp.checksum, Checksum::Correct);
}

/// The reasons that were counted between.
pub fn changed(before: &Counted, after: &Counted) -> Vec<&'static str> {
    let mut changed = Vec::new();
    for (reason, count) in &after.reasons {
        let old = before.reasons.get(reason).copied().unwrap_or(0);
        changed.extend((old..*count).map(|_| *reason));
    }
    changed
}
