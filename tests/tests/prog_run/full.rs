//! Tables that are full.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags;

use super::bench::{Bench, Hook, SMALL, Setup};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, LISTENER, SERVER, tcp, udp};
use super::translate::RULE;

fn client(host: u8) -> Connection {
    let client = format!("198.51.100.{host}:25000");
    Connection::new(&client, LISTENER, &client, SERVER)
}

#[rstest]
fn a_full_flow_table_refuses_and_forgets_nobody(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut setup = Setup::new(RULE);
    setup.sizes.flows = 2;
    let mut bench = Bench::with((hook, family), &setup);
    client(1).send(&mut bench, &udp());
    client(2).send(&mut bench, &udp());
    bench.refuses(
        Device::Wan,
        &client(3).request(udp()),
        Reason::FlowTableFull,
    );
    bench.counts(2, 0);
    bench.refuses(
        Device::Wan,
        &client(4).request(tcp(tcp_flags::SYN)),
        Reason::FlowTableFull,
    );
    client(1).answer(&mut bench, &udp());
    client(2).answer(&mut bench, &udp());
    bench.holds(&[
        &client(1).described("STREAM"),
        &client(2).described("STREAM"),
    ]);
}

#[rstest]
fn a_syn_flood_leaves_the_others_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut setup = Setup::new(RULE);
    setup.sizes.half_open = 2;
    let mut bench = Bench::with((hook, family), &setup);
    client(1).handshake(&mut bench);
    client(2).send(&mut bench, &tcp(tcp_flags::SYN));
    client(3).send(&mut bench, &tcp(tcp_flags::SYN));
    for host in 4..8 {
        let packet = client(host).request(tcp(tcp_flags::SYN));
        bench.refuses(Device::Wan, &packet, Reason::HalfOpenFull);
    }
    bench.counts(1, 2);
    client(1).send(&mut bench, &tcp(tcp_flags::ACK));
    client(8).send(&mut bench, &udp());
    client(2).answer(&mut bench, &tcp(tcp_flags::SYN | tcp_flags::ACK));
    client(2).send(&mut bench, &tcp(tcp_flags::ACK));
    client(4).send(&mut bench, &tcp(tcp_flags::SYN));
    bench.counts(3, 2);
    assert_eq!(bench.datapath.sizes().flows, SMALL.flows);
}
