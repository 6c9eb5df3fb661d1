//! What XDP must leave to TC, and sizes.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Packet, tcp_flags};

use super::bench::{Bench, Hook};
use super::topology::{Device, MTU};
use super::traffic::{CLIENT, Connection, LISTENER, tcp, udp};
use super::translate::RULE;

/// Bytes of an IP and a UDP header.
const UDP_HEADERS: u32 = 28;

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

fn of_length(length: u32) -> Packet {
    udp().with_payload(&vec![0x55; (length - UDP_HEADERS) as usize])
}

/// The device's MTU, a smaller one of the route, and a device that shrinks later.
#[rstest]
#[case::device("10.0.0.2", MTU)]
#[case::route("10.4.0.2", 1280)]
fn packets_larger_than_the_way_takes(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] backend: &str,
    #[case] mtu: u32,
) {
    let mut bench = Bench::new(hook, &RULE.replace("10.0.0.2", backend));
    let connection = Connection {
        backend: format!("{backend}:110"),
        ..Connection::default()
    };
    let large = connection.request(of_length(mtu + 1));
    bench.refuses(Device::Wan, &large, Reason::TooBig);
    bench.holds(&[]);
    let fits = connection.request(of_length(mtu));
    bench.passes_through(Device::Wan, &fits, Device::Lan);
    bench.refuses(Device::Wan, &large, Reason::TooBig);
    bench.refuses(
        Device::Lan,
        &connection.reply(of_length(MTU + 1)),
        Reason::TooBig,
    );

    let mut links = bench.links();
    for link in &mut links {
        link.mtu = if link.name == "lan" { 1000 } else { 900 };
    }
    bench.datapath.set_devices(&links).expect("devices");
    bench.bump();
    let (at, above) = (of_length(1000), of_length(1001));
    bench.passes_through(Device::Wan, &connection.request(at), Device::Lan);
    bench.refuses(Device::Wan, &connection.request(above), Reason::TooBig);
    let (at, above) = (of_length(900), of_length(901));
    bench.passes_through(Device::Lan, &connection.reply(at), Device::Wan);
    bench.refuses(Device::Lan, &connection.reply(above), Reason::TooBig);
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
            bench.refuses(Device::Wan, &packet, Reason::TooBig);
        }
    }
}
