//! Addresses, ports, checksums, TTL and MACs of forwarded packets.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::{Checksum, Packet, checksum, tcp_flags};

use super::bench::{Bench, Hook};
use super::flows::decode;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, SERVER, syn, tcp, udp};

const PRESERVE: &str = "[[forward]]\nlisten = \"203.0.113.5:110\"\nto = \"10.0.0.2\"\n\
                        protocol = [\"tcp\", \"udp\"]\n";

fn rule(source: &str) -> String {
    format!("{PRESERVE}source = \"{source}\"\n")
}

#[rstest]
#[case::preserve("preserve", CLIENT)]
#[case::masquerade("masquerade", "10.0.0.1:25000")]
#[case::pool_of_one("10.0.0.77", "10.0.0.77:25000")]
fn both_directions_are_translated(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[case] source: &str,
    #[case] seen: &str,
) {
    let mut bench = Bench::new(hook, &rule(source));
    let connection = Connection::new(CLIENT, LISTENER, seen, SERVER);
    connection.handshake(&mut bench);
    connection.send(&mut bench, &tcp(tcp_flags::ACK | tcp_flags::PSH));
    connection.answer(&mut bench, &tcp(tcp_flags::ACK | tcp_flags::PSH));
    let tcp_flow = connection.described("ESTABLISHED");
    bench.holds(&[&tcp_flow]);

    connection.send(&mut bench, &udp());
    bench.holds(&[&tcp_flow, &connection.described("UNREPLIED")]);
    connection.answer(&mut bench, &udp());
    connection.send(&mut bench, &udp());
    bench.holds(&[&tcp_flow, &connection.described("STREAM")]);
}
