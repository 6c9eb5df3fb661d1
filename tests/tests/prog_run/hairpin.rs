//! Clients on the side of the backend, who use the public address.

use rstest::rstest;
use tests::packet::tcp_flags::{ACK, PSH};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, LISTENER, SERVER, tcp, udp};
use super::translate::RULE;

/// The backend would answer a neighbour past the gateway; everybody else's answer comes by it.
#[rstest]
#[case::same_subnet("10.0.0.3:25000", 3, "10.0.0.1:25000")]
#[case::other_subnet_of_the_device("10.2.0.9:25000", 253, "10.2.0.9:25000")]
#[case::behind_a_router("10.1.0.5:25000", 254, "10.1.0.5:25000")]
fn out_by_the_device_of_the_backend(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] client: &str,
    #[case] neighbour: u8,
    #[case] seen: &str,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection {
        near: (Device::Lan, neighbour),
        ..Connection::new(client, LISTENER, seen, SERVER)
    };
    connection.handshake(&mut bench);
    connection.send(&mut bench, &tcp(ACK | PSH));
    connection.answer(&mut bench, &tcp(ACK | PSH));
    connection.send(&mut bench, &udp());
    connection.answer(&mut bench, &udp());
    bench.holds(&[
        &connection.described("ESTABLISHED"),
        &connection.described("STREAM"),
    ]);
}
