//! What XDP must leave to TC, and sizes.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{IcmpError, Packet, tcp_flags};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::{Device, MTU};
use super::traffic::{CLIENT, Connection, LISTENER, tcp, udp};
use super::translate::RULE;

/// Bytes of a UDP header.
const UDP: u32 = 8;

/// Redescribes `device` to the programs.
fn change(bench: &mut Bench, device: Device, change: impl Fn(&mut forwarder::datapath::Link)) {
    let mut links = bench.links();
    for link in links.iter_mut().filter(|link| link.name == device.name()) {
        change(link);
    }
    bench.datapath.set_devices(&links).expect("devices");
    bench.bump();
}

/// A frame that XDP redirects to a driver without transmit function vanishes without a trace.
#[test]
fn xdp_sends_nothing_to_a_device_that_cannot_take_it() {
    let mut bench = Bench::new(Hook::Xdp, RULE);
    change(&mut bench, Device::Lan, |link| link.xdp_transmit = false);
    let connection = Connection::default();
    let request = connection.request(tcp(tcp_flags::SYN));
    bench.refuses(Device::Wan, &request, Reason::EgressWithoutXdp);
    bench.holds(&[]);
    bench.hook = Hook::Tc;
    connection.send(&mut bench, &tcp(tcp_flags::SYN));
    // TC has found the route and kept it; XDP still must not use it.
    bench.hook = Hook::Xdp;
    bench.refuses(Device::Wan, &request, Reason::EgressWithoutXdp);
    connection.answer(&mut bench, &tcp(tcp_flags::SYN | tcp_flags::ACK));
    let request = connection.request(tcp(tcp_flags::ACK));
    bench.refuses(Device::Wan, &request, Reason::EgressWithoutXdp);
    bench.hook = Hook::Tc;
    connection.send(&mut bench, &tcp(tcp_flags::ACK));
    bench.hook = Hook::Xdp;
    let request = connection.request(tcp(tcp_flags::ACK | tcp_flags::PSH));
    bench.refuses(Device::Wan, &request, Reason::EgressWithoutXdp);
    bench.holds(&[&connection.described("ESTABLISHED")]);
}

/// The same for the way back, which no route look-up has seen.
#[rstest]
#[case::from_the_start(false)]
#[case::changed_later(true)]
fn xdp_returns_nothing_by_a_device_that_cannot_take_it(#[case] later: bool) {
    let mut bench = Bench::new(Hook::Xdp, RULE);
    let connection = Connection::default();
    if later {
        connection.send(&mut bench, &udp());
        connection.answer(&mut bench, &udp());
    }
    change(&mut bench, Device::Wan, |link| link.xdp_transmit = false);
    connection.send(&mut bench, &udp());
    let reply = connection.reply(udp());
    bench.refuses(Device::Lan, &reply, Reason::EgressWithoutXdp);
    bench.hook = Hook::Tc;
    connection.answer(&mut bench, &udp());
    bench.hook = Hook::Xdp;
    bench.refuses(Device::Lan, &reply, Reason::EgressWithoutXdp);
    change(&mut bench, Device::Wan, |link| link.xdp_transmit = true);
    connection.answer(&mut bench, &udp());
}

/// Out by the device it came in by, XDP needs no transmit function.
#[test]
fn transmit_is_not_needed_on_the_way_back_out() {
    let rule = "[[forward]]\nprotocol = \"udp\"\nlisten = \"203.0.113.5:110\"\nto = \"195.228.245.1\"\nsource = \"masquerade\"\n";
    let mut bench = Bench::new(Hook::Xdp, rule);
    change(&mut bench, Device::Wan, |link| link.xdp_transmit = false);
    let macs = (Device::Wan.neighbour(254), Device::Wan.mac());
    let sent = Packet::udp(CLIENT, LISTENER).with_macs(macs.0, macs.1);
    let expected = Packet::udp("203.0.113.1:25000", "195.228.245.1:110").with_ttl(63);
    let expected = expected.with_macs(macs.1, macs.0);
    bench.forwards(Device::Wan, &sent, Device::Wan, &expected);
    let sent = Packet::udp("195.228.245.1:110", "203.0.113.1:25000").with_macs(macs.0, macs.1);
    let expected = Packet::udp(LISTENER, CLIENT).with_macs(macs.1, macs.0);
    bench.forwards(Device::Wan, &sent, Device::Wan, &expected.with_ttl(63));
}

fn of_length(family: Family, length: u32) -> Packet {
    let headers = family.header() + UDP;
    udp().with_payload(&vec![0x55; (length - headers) as usize])
}

/// Asserts that a packet is `mtu` bytes too large, and that its sender is told so.
#[track_caller]
fn too_big(bench: &mut Bench, device: Device, packet: &Packet, mtu: u32) {
    let mtu = mtu.try_into().expect("an MTU");
    let expected = bench.error(device, IcmpError::TooBig(mtu), packet);
    bench.answers(device, packet, Reason::TooBig, &expected);
}

/// The device's MTU, a smaller one of the route, and a device that shrinks later.
#[rstest]
#[case::device("10.0.0.2", MTU)]
#[case::route("10.4.0.2", 1300)]
fn packets_larger_than_the_way_takes(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] backend: &str,
    #[case] mtu: u32,
) {
    let mut bench = Bench::new((hook, family), &RULE.replace("10.0.0.2", backend));
    let connection = Connection {
        backend: format!("{backend}:110"),
        ..Connection::default()
    };
    let request = |length| connection.request(of_length(family, length));
    let reply = |length| connection.reply(of_length(family, length));
    too_big(&mut bench, Device::Wan, &request(mtu + 1), mtu);
    bench.holds(&[]);
    bench.passes_through(Device::Wan, &request(mtu), Device::Lan);
    too_big(&mut bench, Device::Wan, &request(mtu + 1), mtu);
    too_big(&mut bench, Device::Lan, &reply(MTU + 1), MTU);

    let mut links = bench.links();
    for link in &mut links {
        link.mtu = if link.name == "lan" { 1290 } else { 1280 };
    }
    bench.datapath.set_devices(&links).expect("devices");
    bench.bump();
    bench.passes_through(Device::Wan, &request(1290), Device::Lan);
    too_big(&mut bench, Device::Wan, &request(1291), 1290);
    bench.passes_through(Device::Lan, &reply(1280), Device::Wan);
    too_big(&mut bench, Device::Lan, &reply(1281), 1280);
}

/// A super-packet may be larger than the way takes if its segments are not.
#[test]
fn the_segments_of_a_super_packet_count() {
    let mut bench = Bench::new(Hook::Tc, RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    let data = tcp(tcp_flags::ACK).with_payload(&[0x55; 2900]);
    // IP and TCP headers are 40 bytes.
    for (segment, fits) in [(1448, true), (1460, true), (1461, false), (0, false)] {
        bench.segment = segment;
        if fits {
            connection.send(&mut bench, &data);
            connection.answer(&mut bench, &data);
        } else {
            let packet = connection.request(data.clone());
            too_big(&mut bench, Device::Wan, &packet, MTU);
        }
    }
}
