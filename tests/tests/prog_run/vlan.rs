//! VLAN tags in frames, as the fast path sees them. On the slow path they are beside the packet.
//!
//! This kernel may have no VLAN devices; the programs take what they are told. `alt` is described as VLAN 7 on
//! `wan` here, and `lan` as VLAN 9 there where a test says so.

use forwarder::datapath::Vlan;
use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{IcmpError, Packet, Vlan as Tag, assert_frame};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, SERVER, udp};
use super::translate::RULE;

const TX: u32 = 3;
const REDIRECT: u32 = 4;
/// Service tags, of the outer of two.
const SERVICE: u16 = 0x88a8;

/// A gateway with `tagged` devices on `wan`: device, EtherType and number.
fn gateway(family: Family, rule: &str, tagged: &[(Device, u16, u16)]) -> Bench {
    let mut bench = Bench::new((Hook::Xdp, family), rule);
    describe(&mut bench, tagged);
    bench
}

/// Tells the programs of `tagged` devices on `wan`.
pub fn describe(bench: &mut Bench, tagged: &[(Device, u16, u16)]) {
    let lower = bench.index(Device::Wan);
    let mut links = bench.links();
    for (device, protocol, id) in tagged {
        for link in links.iter_mut().filter(|link| link.name == device.name()) {
            link.vlan = Some(Vlan {
                lower,
                protocol: *protocol,
                id: *id,
            });
        }
    }
    bench.datapath.set_devices(&links).expect("devices");
    bench.datapath.set_vlans(&links).expect("VLANs");
}

fn tagged(packet: &Packet, tags: &[(u16, u16)]) -> Packet {
    let mut packet = packet.clone();
    let tag = |(protocol, control): &(u16, u16)| Tag {
        protocol: *protocol,
        control: *control,
    };
    packet.ethernet.vlans = tags.iter().map(tag).collect();
    packet
}

/// Runs a frame that comes in by `from`, and asserts how it leaves.
#[track_caller]
fn forwards(bench: &mut Bench, from: Device, sent: &Packet, verdict: u32, expected: &Packet) {
    let mut wanted = bench.counted();
    let (sent, expected) = (bench.family.packet(sent), bench.family.packet(expected));
    let run = bench.run(from, &sent.to_bytes());
    assert_frame(&run.packet, &expected);
    assert_eq!(run.verdict, verdict);
    wanted.packets[0] += 1;
    wanted.bytes += (sent.to_bytes().len() - sent.network_offset()) as u64;
    assert_eq!(bench.counted(), wanted);
}

/// The client by `alt` or `wan`, the backend by `lan` or, with VLAN 9, by `wan`.
#[rstest]
#[case::tagged_in(&[7], &[])]
#[case::tagged_out(&[], &[9])]
#[case::tagged_both_ways(&[7], &[9])]
#[case::untagged(&[], &[])]
fn in_and_out(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(0x8100, SERVICE)] protocol: u16,
    #[case] near: &[u16],
    #[case] far: &[u16],
) {
    let mut devices = vec![(Device::Alt, protocol, 7)];
    let backend_side = match far {
        [id] => {
            devices.push((Device::Lan, protocol, *id));
            Device::Wan
        }
        _ => Device::Lan,
    };
    let mut bench = gateway(family, RULE, &devices);
    let connection = Connection {
        near: (
            if near.is_empty() {
                Device::Wan
            } else {
                Device::Alt
            },
            254,
        ),
        ..Connection::new(CLIENT, LISTENER, CLIENT, SERVER)
    };
    let tags = |ids: &[u16]| ids.iter().map(|id| (protocol, *id)).collect::<Vec<_>>();
    let verdict = if far.is_empty() { REDIRECT } else { TX };
    for _ in 0..2 {
        let sent = tagged(&connection.request(udp()), &tags(near));
        let expected = tagged(&connection.forwarded(udp()), &tags(far));
        forwards(&mut bench, Device::Wan, &sent, verdict, &expected);
        let sent = tagged(&connection.reply(udp()), &tags(far));
        let expected = tagged(&connection.returned(udp()), &tags(near));
        forwards(&mut bench, backend_side, &sent, verdict, &expected);
    }
    bench.holds(&[&connection.described("STREAM")]);
}

/// Back out of the VLAN it came in by, priority and all else of the tag as the device has it.
#[rstest]
fn in_and_out_by_one_vlan(#[values(Family::V4, Family::V6)] family: Family) {
    let rule = RULE.replace("10.0.0.2", "192.0.2.2");
    let mut bench = gateway(family, &rule, &[(Device::Alt, 0x8100, 7)]);
    let connection = Connection {
        near: (Device::Alt, 254),
        far: (Device::Alt, None),
        ..Connection::new(CLIENT, LISTENER, CLIENT, "192.0.2.2:110")
    };
    let sent = tagged(&connection.request(udp()), &[(0x8100, 0xe007)]);
    let expected = tagged(&connection.forwarded(udp()), &[(0x8100, 7)]);
    forwards(&mut bench, Device::Wan, &sent, TX, &expected);
    let sent = tagged(&connection.reply(udp()), &[(0x8100, 7)]);
    let expected = tagged(&connection.returned(udp()), &[(0x8100, 7)]);
    forwards(&mut bench, Device::Wan, &sent, TX, &expected);
}

/// A VLAN that is not served, the same number under another tag or on another device, and two tags.
#[rstest]
#[case::unknown(Device::Wan, &[(0x8100, 8)], Reason::ForeignVlan)]
#[case::other_tag(Device::Wan, &[(SERVICE, 7)], Reason::ForeignVlan)]
#[case::other_device(Device::Lan, &[(0x8100, 7)], Reason::ForeignVlan)]
#[case::two_tags(Device::Wan, &[(SERVICE, 8), (0x8100, 7)], Reason::ForeignVlan)]
#[case::within_a_known_one(Device::Wan, &[(0x8100, 7), (0x8100, 8)], Reason::NotIp)]
fn left_alone(
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] device: Device,
    #[case] tags: &[(u16, u16)],
    #[case] reason: Reason,
) {
    let mut bench = gateway(family, RULE, &[(Device::Alt, 0x8100, 7)]);
    let packet = Connection::default().request(udp());
    let packet = packet.with_macs(Device::Alt.neighbour(254), Device::Alt.mac());
    bench.refuses(device, &tagged(&packet, tags), reason);
}

/// Rules are by device, and the VLAN device is not the one that carries it.
#[rstest]
fn a_rule_for_the_vlan(#[values(Family::V4, Family::V6)] family: Family) {
    let rule = format!("{RULE}interface = \"alt\"\n");
    let mut bench = gateway(family, &rule, &[(Device::Alt, 0x8100, 7)]);
    let connection = Connection {
        near: (Device::Alt, 254),
        ..Connection::default()
    };
    bench.refuses(
        Device::Wan,
        &Connection::default().request(udp()),
        Reason::NoRule,
    );
    let sent = tagged(&connection.request(udp()), &[(0x8100, 7)]);
    forwards(
        &mut bench,
        Device::Wan,
        &sent,
        REDIRECT,
        &connection.forwarded(udp()),
    );
}

/// An answer has the tag of what it answers.
#[rstest]
fn answers_are_tagged(#[values(Family::V4, Family::V6)] family: Family) {
    let rule = RULE.replace(", \"udp\"", "") + "reset-unknown = true\n";
    let mut bench = gateway(family, &rule, &[(Device::Alt, 0x8100, 7)]);
    let connection = Connection {
        near: (Device::Alt, 254),
        ..Connection::default()
    };
    let ack = super::traffic::tcp(tests::packet::tcp_flags::ACK);
    let sent = tagged(&connection.request(ack), &[(0x8100, 7)]);
    let expected = bench.reset(&sent);
    bench.answers(Device::Wan, &sent, Reason::TcpNoFlow, &expected);
    let sent = tagged(&connection.request(super::traffic::syn()), &[(0x8100, 7)]).with_ttl(1);
    let expected = bench.error(Device::Alt, IcmpError::TimeExceeded, &sent);
    bench.answers(Device::Wan, &sent, Reason::TtlExpired, &expected);
}
