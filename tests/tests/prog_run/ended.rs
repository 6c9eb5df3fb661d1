//! Flows that userspace ends: whoever still sends is told, and may begin anew.

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, PSH, RST, SYN};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, syn, tcp, udp};
use super::translate::RULE;

/// Ends every flow.
#[track_caller]
fn end(bench: &mut Bench, count: usize) {
    let flows = bench.flows();
    assert_eq!(flows.len(), count);
    bench.datapath.end_flows(&flows).expect("the tables");
}

#[rstest]
#[case::established(true)]
#[case::half_open(false)]
fn both_sides_of_a_connection_are_told(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] established: bool,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    if established {
        connection.handshake(&mut bench);
    } else {
        connection.send(&mut bench, &syn());
    }
    end(&mut bench, 1);
    for flags in [ACK, ACK | PSH] {
        for (device, packet) in [
            (Device::Wan, connection.request(tcp(flags))),
            (Device::Lan, connection.reply(tcp(flags))),
        ] {
            let expected = bench.reset(&packet);
            bench.answers(device, &packet, Reason::FlowEnded, &expected);
        }
    }
    for (device, packet) in [
        (Device::Wan, connection.request(tcp(RST))),
        (Device::Lan, connection.reply(tcp(RST))),
    ] {
        bench.refuses(device, &packet, Reason::FlowEnded);
    }
    // A SYN of the server opens nothing, one of the client does.
    let packet = connection.reply(tcp(SYN));
    let expected = bench.reset(&packet);
    bench.answers(Device::Lan, &packet, Reason::FlowEnded, &expected);
    connection.handshake(&mut bench);
    bench.holds(&[&connection.described("ESTABLISHED")]);
    bench.counts(1, 0);
}

#[rstest]
fn a_datagram_of_the_client_begins_anew(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let old = Connection::default();
    old.send(&mut bench, &udp());
    old.answer(&mut bench, &udp());
    end(&mut bench, 1);
    let reply = old.reply(udp());
    bench.refuses(Device::Lan, &reply, Reason::FlowEnded);
    // As the rules are now.
    bench.reload(&RULE.replace("10.0.0.2", "10.0.0.3"));
    let new = Connection {
        backend: "10.0.0.3:110".to_owned(),
        ..old
    };
    new.send(&mut bench, &udp());
    new.answer(&mut bench, &udp());
    bench.holds(&[&new.described("STREAM")]);
}

/// Where no rule wants it any more, it is nobody's.
#[rstest]
fn what_has_ended_may_have_no_rule_left(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    connection.handshake(&mut bench);
    connection.send(&mut bench, &udp());
    bench.reload("[[forward]]\nlisten = \"203.0.113.5:1\"\nto = \"10.0.0.2\"\n");
    end(&mut bench, 2);
    for packet in [syn(), udp()] {
        bench.refuses(Device::Wan, &connection.request(packet), Reason::NoRule);
    }
    bench.holds(&[]);
}
