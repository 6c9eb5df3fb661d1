//! `to = "local:PORT"`: to a socket of this host, which sees the client.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, FIN, PSH, SYN};
use tests::packet::{IcmpError, Packet};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{CLIENT, Connection, LISTENER, syn, tcp, udp};

const RULE: &str = "[[forward]]\nname = \"pop3\"\nlisten = \"203.0.113.5:110\"\nto = \"local:2110\"\n\
                    protocol = [\"tcp\", \"udp\"]\n";
/// The socket, at the first address of the device, as netfilter's REDIRECT has it.
const SOCKET: &str = "203.0.113.1:2110";

/// A connection to it, whose packets come in by XDP or TC and leave by TC egress.
struct Local {
    hook: Hook,
    connection: Connection,
}

impl Local {
    fn new(hook: Hook) -> Self {
        let connection = Connection::new(CLIENT, LISTENER, CLIENT, SOCKET);
        Self { hook, connection }
    }

    /// Nothing is changed but the destination.
    #[track_caller]
    fn send(&self, bench: &mut Bench, packet: Packet) {
        bench.hook = self.hook;
        let sent = self.connection.request(packet);
        let expected = sent.clone().with_destination(SOCKET);
        bench.stays(Device::Wan, &sent, &expected);
    }

    #[track_caller]
    fn answer(&self, bench: &mut Bench, packet: Packet) {
        bench.hook = Hook::Egress;
        let sent = self.reply(packet);
        let expected = sent.clone().with_source(LISTENER);
        bench.stays(Device::Wan, &sent, &expected);
        bench.hook = self.hook;
    }

    /// As the host's stack sends it.
    fn reply(&self, packet: Packet) -> Packet {
        let packet = packet.with_source(SOCKET).with_destination(CLIENT);
        packet.with_macs(Device::Wan.mac(), Device::Wan.neighbour(254))
    }
}

#[rstest]
fn both_directions_are_translated(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[values("203.0.113.5:110", "*:110")] listen: &str,
) {
    let mut bench = Bench::new((hook, family), &RULE.replace(LISTENER, listen));
    let local = Local::new(hook);
    local.send(&mut bench, syn());
    local.answer(&mut bench, tcp(SYN | ACK));
    local.send(&mut bench, tcp(ACK));
    local.send(&mut bench, tcp(ACK | PSH));
    local.answer(&mut bench, tcp(ACK | PSH));
    local.send(&mut bench, udp());
    local.answer(&mut bench, udp());
    bench.holds(&[
        &local.connection.described("ESTABLISHED"),
        &local.connection.described("STREAM"),
    ]);
    local.answer(&mut bench, tcp(FIN | ACK));
    local.send(&mut bench, tcp(FIN | ACK));
    bench.holds(&[
        &local.connection.described("TIME_WAIT"),
        &local.connection.described("STREAM"),
    ]);
}

/// The packet is at its goal: hops do not matter, nor does the size of any device.
#[rstest]
fn neither_hops_nor_sizes_matter(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let local = Local::new(hook);
    for ttl in [0, 1, 255] {
        local.send(&mut bench, udp().with_ttl(ttl));
        local.answer(&mut bench, udp().with_ttl(ttl));
    }
    local.send(&mut bench, udp().with_payload(&[7; 1600]));
}

/// What only looks like the socket's answer, or like a client but comes from this host.
#[rstest]
fn spoofed_packets_are_left_alone(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let local = Local::new(hook);
    for open in [syn(), udp()] {
        local.send(&mut bench, open);
    }
    for packet in [tcp(SYN | ACK), udp()] {
        for device in [Device::Lan, Device::Wan] {
            let spoofed = local.reply(packet.clone());
            let spoofed = spoofed.with_macs(device.neighbour(2), device.mac());
            bench.refuses(device, &spoofed, Reason::NoRule);
        }
    }
    bench.hook = Hook::Egress;
    for packet in [tcp(ACK), syn(), udp()] {
        let spoofed = local.connection.request(packet);
        bench.refuses(Device::Wan, &spoofed, Reason::NoRule);
    }
    bench.hook = hook;
    bench.holds(&[
        &local.connection.described("SYN_SENT"),
        &local.connection.described("UNREPLIED"),
    ]);
}

/// What the socket sends of its own, and anything else of this host.
#[rstest]
fn what_this_host_sends_otherwise(#[values(Family::V4, Family::V6)] family: Family) {
    let mut bench = Bench::new((Hook::Egress, family), RULE);
    let local = Local::new(Hook::Xdp);
    for packet in [syn(), tcp(ACK), tcp(SYN | ACK), udp()] {
        bench.refuses(Device::Wan, &local.reply(packet), Reason::NoRule);
    }
    bench.holds(&[]);
}

/// A client that nobody opened a connection for is reset by the stack, or by us.
#[rstest]
fn a_segment_of_no_connection(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let packet = Local::new(hook).connection.request(tcp(ACK));
    bench.refuses(Device::Wan, &packet, Reason::TcpNoFlow);
}

/// The path's errors reach the socket under its own port.
#[rstest]
fn errors_reach_the_socket(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let local = Local::new(hook);
    local.send(&mut bench, udp());
    local.answer(&mut bench, udp());
    let reply = family.packet(&local.reply(udp()));
    let left = reply.clone().with_source(&family.text(LISTENER));
    let error = |about: &Packet| {
        let router = family.text("198.51.100.1");
        let error = Packet::error_about(&router, IcmpError::TooBig(1400), about);
        error.with_macs(Device::Wan.neighbour(254), Device::Wan.mac())
    };
    bench.stays(Device::Wan, &error(&left), &error(&reply));
}
