//! Next hops, neighbours, devices and sizes: the way out.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Packet, assert_frame, tcp_flags};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, ROUTER, SERVER, tcp, udp};
use super::translate::RULE;

/// `RULE` with another backend.
fn to(backend: &str) -> String {
    RULE.replace("10.0.0.2", backend)
}

#[rstest]
#[case::blackhole("10.66.0.1", Reason::Unroutable)]
#[case::unreachable("10.66.1.1", Reason::Unroutable)]
#[case::prohibit("10.66.2.1", Reason::Unroutable)]
#[case::own_address("10.0.0.1", Reason::NotForwarded)]
fn no_way_to_the_backend(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] backend: &str,
    #[case] reason: Reason,
) {
    let mut bench = Bench::new((hook, family), &to(backend));
    let connection = Connection::default();
    for packet in [tcp(tcp_flags::SYN), udp()] {
        bench.refuses(Device::Wan, &connection.request(packet), reason);
    }
    bench.holds(&[]);
}

#[rstest]
fn no_route_at_all(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &to("195.228.245.1"));
    bench.ip("route del default");
    let packet = Connection::default().request(udp());
    bench.refuses(Device::Wan, &packet, Reason::NotForwarded);
    bench.holds(&[]);
}

#[rstest]
fn forwarding_is_neither_needed_nor_in_the_way(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values("0", "1")] forwarding: &str,
) {
    let mut bench = Bench::new((hook, family), RULE);
    bench.forwarding("all", forwarding);
    bench.forwarding("lo", "1");
    Connection::default().handshake(&mut bench);
}

#[rstest]
fn without_forwarding_on_lo_the_reason_says_so(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    bench.forwarding("lo", "0");
    let packet = Connection::default().request(udp());
    bench.refuses(Device::Wan, &packet, Reason::ForwardingDisabled);
}

/// XDP hands over, TC sends by the kernel's neighbour code, and once the neighbour has answered both send frames.
#[rstest]
fn the_next_hop_is_not_known_yet(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values("preserve", "masquerade")] source: &str,
) {
    let mut bench = Bench::new(
        (Hook::Xdp, family),
        &format!("{}source = {source:?}\n", to("10.0.0.9")),
    );
    let seen = match source {
        "preserve" => CLIENT,
        _ => "10.0.0.1:25000",
    };
    let connection = Connection::new(CLIENT, LISTENER, seen, "10.0.0.9:110");
    let packet = connection.request(udp());
    bench.refuses(Device::Wan, &packet, Reason::NoNeighbour);
    bench.holds(&[]);

    bench.hook = Hook::Tc;
    for _ in 0..2 {
        // The helper puts the MAC addresses in later.
        let out = bench.leaves(Device::Wan, &packet);
        let expected = connection.forwarded(udp()).with_macs([0; 6], [0; 6]);
        assert_frame(&out, &family.packet(&expected));
    }
    bench.hook = Hook::Xdp;
    bench.refuses(Device::Wan, &packet, Reason::NoNeighbour);

    bench.hook = hook;
    bench.ip("neigh replace 10.0.0.9 lladdr 02:00:00:00:02:09 dev lan nud permanent");
    connection.send(&mut bench, &udp());
    connection.answer(&mut bench, &udp());
    bench.holds(&[&connection.described("STREAM")]);
}

#[rstest]
fn a_neighbour_that_goes_away_is_asked_for_again(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    bench.ip("neigh del 10.0.0.2 dev lan");
    // Until the generation changes the cached route holds.
    connection.send(&mut bench, &tcp(tcp_flags::ACK));
    bench.bump();
    let packet = connection.request(tcp(tcp_flags::ACK));
    match hook {
        Hook::Xdp => bench.refuses(Device::Wan, &packet, Reason::NoNeighbour),
        _ => {
            bench.leaves(Device::Wan, &packet);
        }
    }
    bench.ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:02:02 dev lan nud permanent");
    connection.send(&mut bench, &tcp(tcp_flags::ACK));
    bench.holds(&[&connection.described("ESTABLISHED")]);
}

#[rstest]
fn a_changed_route_is_used_after_the_next_generation(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    bench.ip("neigh replace 10.0.0.2 lladdr 02:00:00:00:02:99 dev lan nud permanent");
    connection.send(&mut bench, &tcp(tcp_flags::ACK));
    bench.bump();
    let (sent, expected) = (
        connection.request(tcp(tcp_flags::ACK)),
        connection
            .forwarded(tcp(tcp_flags::ACK))
            .with_macs(Device::Lan.mac(), [2, 0, 0, 0, 2, 0x99]),
    );
    bench.forwards(Device::Wan, &sent, Device::Lan, &expected);
    // To another device altogether.
    bench.ip("route add 10.0.0.2/32 via 192.0.2.2 dev alt");
    bench.bump();
    let expected = expected.with_macs(Device::Alt.mac(), Device::Alt.neighbour(2));
    bench.forwards(Device::Wan, &sent, Device::Alt, &expected);
    bench.ip("route replace blackhole 10.0.0.2/32");
    bench.bump();
    bench.refuses(Device::Wan, &sent, Reason::Unroutable);
    bench.holds(&[&connection.described("ESTABLISHED")]);
}

#[rstest]
fn a_gateway_takes_what_is_not_on_the_subnet(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &to("10.1.0.2"));
    let connection = Connection::new(CLIENT, LISTENER, CLIENT, "10.1.0.2:110");
    let expected = connection
        .forwarded(udp())
        .with_macs(Device::Lan.mac(), Device::Lan.neighbour(254));
    bench.forwards(
        Device::Wan,
        &connection.request(udp()),
        Device::Lan,
        &expected,
    );
}

/// As netfilter's MASQUERADE: the own address on the next hop's subnet, not the device's first one.
#[rstest]
#[case::backend_on_the_first_subnet("10.0.0.2", "10.0.0.1:25000", 2)]
#[case::gateway_on_the_first_subnet("10.1.0.2", "10.0.0.1:25000", 254)]
#[case::gateway_on_the_second_subnet("10.3.0.2", "10.2.0.1:25000", 253)]
fn masquerade_uses_the_address_that_the_next_hop_knows(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] backend: &str,
    #[case] seen: &str,
    #[case] neighbour: u8,
) {
    let rule = format!("{}source = \"masquerade\"\n", to(backend));
    let mut bench = Bench::new((hook, family), &rule);
    let connection = Connection::new(CLIENT, LISTENER, seen, &format!("{backend}:110"));
    let expected = connection
        .forwarded(udp())
        .with_macs(Device::Lan.mac(), Device::Lan.neighbour(neighbour));
    bench.forwards(
        Device::Wan,
        &connection.request(udp()),
        Device::Lan,
        &expected,
    );
}

#[rstest]
fn a_device_without_address_cannot_masquerade(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &format!("{RULE}source = \"masquerade\"\n"));
    bench.datapath.set_addresses(&[]).expect("no addresses");
    let packet = Connection::default().request(udp());
    bench.refuses(Device::Wan, &packet, Reason::NoSourceAddress);
    bench.holds(&[]);
}

/// The reply goes back to whoever brought the request, whatever the routing table says.
#[rstest]
#[case::another_router(Device::Wan, 77)]
#[case::another_device(Device::Alt, ROUTER)]
fn the_reply_goes_back_by_the_way_of_the_request(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] device: Device,
    #[case] router: u8,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    let request = |packet: Packet| {
        let packet = connection.request(packet);
        packet.with_macs(device.neighbour(router), device.mac())
    };
    let returned = |packet: Packet| {
        let packet = connection.returned(packet);
        packet.with_macs(device.mac(), device.neighbour(router))
    };
    let forwarded = connection.forwarded(udp());
    let reply = connection.reply(udp());
    bench.forwards(device, &request(udp()), Device::Lan, &forwarded);
    bench.forwards(Device::Lan, &reply, device, &returned(udp()));
    // The client moves to the usual way and back, which the next reply follows; so does a new generation.
    connection.send(&mut bench, &udp());
    connection.answer(&mut bench, &udp());
    bench.bump();
    bench.forwards(device, &request(udp()), Device::Lan, &forwarded);
    bench.forwards(Device::Lan, &reply, device, &returned(udp()));
    bench.bump();
    bench.forwards(Device::Lan, &reply, device, &returned(udp()));
}

#[rstest]
fn a_frame_for_another_host_is_left_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    let router = Device::Wan.neighbour(ROUTER);
    let stray = |packet: Packet| connection.request(packet).with_macs(router, [4; 6]);
    bench.refuses(Device::Wan, &stray(tcp(tcp_flags::SYN)), Reason::OtherHost);
    bench.refuses(Device::Wan, &stray(udp()), Reason::OtherHost);
    bench.holds(&[]);
    connection.send(&mut bench, &udp());
    for _ in 0..2 {
        bench.refuses(Device::Wan, &stray(udp()), Reason::OtherHost);
        let reply = connection.reply(udp()).with_macs(router, [4; 6]);
        bench.refuses(Device::Lan, &reply, Reason::OtherHost);
    }
    connection.answer(&mut bench, &udp());
    connection.send(&mut bench, &udp());
    let other = Connection::new(CLIENT, LISTENER, CLIENT, SERVER);
    bench.holds(&[&other.described("STREAM")]);
}

#[rstest]
fn a_device_that_nobody_described_is_not_used(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let links = bench.links();
    let packet = Connection::default().request(udp());
    for gone in [Device::Wan, Device::Lan] {
        let known: Vec<_> = links
            .iter()
            .filter(|link| link.name != gone.name())
            .cloned()
            .collect();
        bench.datapath.set_devices(&known).expect("devices");
        bench.refuses(Device::Wan, &packet, Reason::UnknownDevice);
    }
    bench.holds(&[]);
}
