//! `[[output]]`: connections that this host itself opens.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::Packet;
use tests::packet::tcp_flags::{ACK, PSH, SYN};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, syn, tcp, udp};

const RULE: &str = "[[output]]\nname = \"mail\"\nto-address = \"192.0.2.2:25\"\nto = \"192.0.2.2:986\"\n\
                    protocol = [\"tcp\", \"udp\"]\n";
/// The host's own end, and where it believes to be going.
const OWN: &str = "192.0.2.1:25000";
/// See [`OWN`].
const MAIL: &str = "192.0.2.2:25";

fn sent(packet: Packet) -> Packet {
    let packet = packet.with_source(OWN).with_destination(MAIL);
    packet.with_macs(Device::Alt.mac(), Device::Alt.neighbour(2))
}

/// A packet of this host, and how it leaves if that is the way it was going.
#[track_caller]
fn send(bench: &mut Bench, to: &str, packet: Packet) {
    bench.hook = Hook::Egress;
    let packet = sent(packet);
    let expected = packet.clone().with_destination(to);
    bench.stays(Device::Alt, &packet, &expected);
}

/// A packet for this host, which must see what it asked for.
#[track_caller]
fn answer(bench: &mut Bench, hook: Hook, device: Device, from: &str, packet: Packet) {
    bench.hook = hook;
    let packet = packet.with_source(from).with_destination(OWN);
    let packet = packet.with_macs(device.neighbour(2), device.mac());
    bench.stays(device, &packet, &packet.clone().with_source(MAIL));
}

#[rstest]
fn to_another_port(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let to = "192.0.2.2:986";
    send(&mut bench, to, syn());
    answer(&mut bench, hook, Device::Alt, to, tcp(SYN | ACK));
    send(&mut bench, to, tcp(ACK));
    send(&mut bench, to, tcp(ACK | PSH));
    answer(&mut bench, hook, Device::Alt, to, tcp(ACK | PSH));
    send(&mut bench, to, udp().with_ttl(1));
    answer(&mut bench, hook, Device::Alt, to, udp().with_ttl(1));
    let connection = Connection::new(OWN, MAIL, OWN, to);
    bench.holds(&[
        &connection.described("ESTABLISHED"),
        &connection.described("STREAM"),
    ]);
}

/// By another device, with that one's next hop; hops are the stack's to count.
#[rstest]
fn to_another_host(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let to = "10.0.0.2:986";
    let mut bench = Bench::new((Hook::Egress, family), &RULE.replace("192.0.2.2:986", to));
    for (there, back) in [(syn(), tcp(SYN | ACK)), (udp(), udp())] {
        bench.hook = Hook::Egress;
        let packet = sent(there);
        let expected = packet.clone().with_destination(to);
        let expected = expected.with_macs(Device::Lan.mac(), Device::Lan.neighbour(2));
        bench.forwards(Device::Alt, &packet, Device::Lan, &expected);
        answer(&mut bench, hook, Device::Lan, to, back);
    }
}

#[rstest]
#[case::other_port("192.0.2.2:26")]
#[case::other_address("192.0.2.3:25")]
#[case::new_port("192.0.2.2:986")]
fn other_connections_are_left_alone(
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] destination: &str,
) {
    let mut bench = Bench::new((Hook::Egress, family), RULE);
    for packet in [syn(), udp(), tcp(ACK)] {
        let packet = sent(packet).with_destination(destination);
        bench.refuses(Device::Alt, &packet, Reason::NoRule);
    }
    // One that was open before the rule was there.
    bench.refuses(Device::Alt, &sent(tcp(ACK)), Reason::NoRule);
    bench.holds(&[]);
}

/// The rule is for this host alone: a client's packet to the same address is not its own.
#[rstest]
fn what_comes_in_is_not_sent_by_this_host(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    for source in ["198.51.100.7:25000", OWN] {
        let packet = udp().with_source(source).with_destination(MAIL);
        let packet = packet.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
        bench.refuses(Device::Wan, &packet, Reason::NoRule);
    }
    send(&mut bench, "192.0.2.2:986", udp());
    bench.hook = hook;
    let spoofed = udp().with_source(OWN).with_destination(MAIL);
    let spoofed = spoofed.with_macs(Device::Wan.neighbour(254), Device::Wan.mac());
    bench.refuses(Device::Wan, &spoofed, Reason::NoRule);
}
