//! A connection's states, by the packets that make them.

use forwarder_common::reason::Reason;
use forwarder_common::tcp::State;
use rstest::rstest;
use tests::packet::IcmpError;
use tests::packet::tcp_flags::{ACK, FIN, PSH, RST, SYN};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, syn, tcp};
use super::translate::RULE;

/// A packet of the connection.
#[derive(Clone, Copy)]
enum Step {
    /// From the client, with these flags.
    Client(u8),
    /// From the server.
    Server(u8),
}

use Step::{Client, Server};

const OPEN: [Step; 3] = [Client(SYN), Server(SYN | ACK), Client(ACK)];

fn walk(bench: &mut Bench, connection: &Connection, steps: &[Step]) {
    for step in steps {
        match *step {
            Client(flags) => connection.send(bench, &tcp(flags)),
            Server(flags) => connection.answer(bench, &tcp(flags)),
        }
    }
}

#[rstest]
#[case::syn(&[], &[Client(SYN)], State::SynSent, (0, 1))]
#[case::syn_again(&[], &[Client(SYN), Client(SYN)], State::SynSent, (0, 1))]
#[case::syn_ack(&[], &[Client(SYN), Server(SYN | ACK)], State::SynReceived, (0, 1))]
#[case::ack_before_syn_ack(&[], &[Client(SYN), Client(ACK)], State::SynSent, (0, 1))]
#[case::refused(&[], &[Client(SYN), Server(RST | ACK)], State::Close, (0, 1))]
#[case::handshake(&OPEN, &[], State::Established, (1, 0))]
#[case::handshake_with_data(&[Client(SYN), Server(SYN | ACK)], &[Client(ACK | PSH)], State::Established, (1, 0))]
#[case::data(&OPEN, &[Server(ACK | PSH), Client(ACK | PSH)], State::Established, (1, 0))]
#[case::syn_in_the_middle(&OPEN, &[Client(SYN)], State::Established, (1, 0))]
#[case::client_closes(&OPEN, &[Client(FIN | ACK)], State::FinWait, (1, 0))]
#[case::server_closes(&OPEN, &[Server(FIN | ACK)], State::FinWait, (1, 0))]
#[case::half_closed_goes_on(&OPEN, &[Client(FIN | ACK), Server(ACK | PSH)], State::FinWait, (1, 0))]
#[case::both_close(&OPEN, &[Client(FIN | ACK), Server(FIN | ACK), Client(ACK)], State::TimeWait, (1, 0))]
#[case::client_resets(&OPEN, &[Client(RST)], State::Close, (1, 0))]
#[case::server_resets(&OPEN, &[Server(RST | ACK)], State::Close, (1, 0))]
#[case::handshake_ends_with_fin(&[Client(SYN), Server(SYN | ACK)], &[Client(FIN | ACK)], State::FinWait, (1, 0))]
#[case::both_open(&[], &[Client(SYN), Server(SYN)], State::SynReceived, (0, 1))]
#[case::both_open_and_one_agrees(&[Client(SYN), Server(SYN)], &[Client(SYN | ACK), Server(SYN | ACK)], State::SynReceived, (0, 1))]
#[case::both_open_and_agree(&[Client(SYN), Server(SYN)], &[Client(SYN | ACK), Server(SYN | ACK), Client(ACK)], State::Established, (1, 0))]
fn states(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] before: &[Step],
    #[case] steps: &[Step],
    #[case] state: State,
    #[case] (flows, half_open): (u64, u64),
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    walk(&mut bench, &connection, before);
    walk(&mut bench, &connection, steps);
    bench.holds(&[&connection.described(state.name())]);
    bench.counts(flows, half_open);
}

#[rstest]
#[case::time_wait(&[Client(FIN | ACK), Server(FIN | ACK)])]
#[case::reset_by_client(&[Client(RST)])]
#[case::reset_by_server(&[Server(RST)])]
fn a_syn_reuses_the_tuple_of_a_closed_connection(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] end: &[Step],
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    walk(&mut bench, &connection, &OPEN);
    walk(&mut bench, &connection, end);
    walk(&mut bench, &connection, &[Client(SYN)]);
    bench.holds(&[&connection.described("SYN_SENT")]);
    bench.counts(0, 1);
    walk(&mut bench, &connection, &OPEN[1..]);
    bench.holds(&[&connection.described("ESTABLISHED")]);
    bench.counts(1, 0);
    let count = bench.datapath.rule_count("pop3").expect("reading a map");
    assert_eq!(count.opened, 2);
}

/// A server that refuses once may accept the next time.
#[rstest]
fn a_syn_reuses_the_tuple_of_a_refused_connection(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    walk(&mut bench, &connection, &[Client(SYN), Server(RST | ACK)]);
    walk(&mut bench, &connection, &OPEN);
    bench.holds(&[&connection.described("ESTABLISHED")]);
    bench.counts(1, 0);
}

/// The rules decide about the new connection, as they are now.
#[rstest]
fn a_reused_tuple_goes_where_the_rules_now_say(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let old = Connection::default();
    walk(&mut bench, &old, &OPEN);
    walk(&mut bench, &old, &[Server(RST)]);
    bench.reload(&RULE.replace("10.0.0.2", "10.0.0.3"));
    let new = Connection {
        backend: "10.0.0.3:110".to_owned(),
        ..Connection::default()
    };
    walk(&mut bench, &new, &OPEN);
    bench.holds(&[&new.described("ESTABLISHED")]);
}

#[rstest]
#[case::ack(ACK)]
#[case::data(ACK | PSH)]
#[case::syn_ack(SYN | ACK)]
#[case::fin(FIN | ACK)]
#[case::rst(RST)]
#[case::null(0)]
#[case::syn_fin(SYN | FIN)]
#[case::syn_rst(SYN | RST)]
fn only_a_syn_opens_a_flow(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] flags: u8,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    let packet = connection.request(tcp(flags));
    bench.refuses(Device::Wan, &packet, Reason::TcpNoFlow);
    bench.holds(&[]);
}

/// A packet that goes no further has told its receiver nothing.
#[rstest]
#[case::for_another_host(Reason::OtherHost)]
#[case::expired(Reason::TtlExpired)]
fn what_is_not_sent_on_changes_no_state(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] reason: Reason,
    #[values(FIN | ACK, RST)] flags: u8,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    walk(&mut bench, &connection, &OPEN);
    for (device, packet) in [
        (Device::Wan, connection.request(tcp(flags))),
        (Device::Lan, connection.reply(tcp(flags))),
    ] {
        if reason == Reason::OtherHost {
            bench.refuses(device, &packet.with_macs([2; 6], [4; 6]), reason);
        } else {
            let packet = packet.with_ttl(1);
            let expected = bench.error(device, IcmpError::TimeExceeded, &packet);
            bench.answers(device, &packet, reason, &expected);
        }
    }
    bench.holds(&[&connection.described("ESTABLISHED")]);
}

/// A SYN for another host that a switch has flooded must not end our flow of the same tuple.
#[rstest]
fn a_flooded_syn_does_not_remove_a_closed_flow(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    walk(&mut bench, &connection, &OPEN);
    walk(&mut bench, &connection, &[Client(FIN | ACK)]);
    let flooded = connection.request(syn()).with_macs([2; 6], [4; 6]);
    bench.refuses(Device::Wan, &flooded, Reason::OtherHost);
    walk(&mut bench, &connection, &[Server(ACK | PSH), Client(ACK)]);
    bench.holds(&[&connection.described("FIN_WAIT")]);
}

/// XDP and TC share every table: a connection may wander between them packet by packet.
#[test]
fn the_hooks_share_a_flow() {
    let mut bench = Bench::new(Hook::Tc, RULE);
    let connection = Connection::default();
    for step in [
        Client(SYN),
        Server(SYN | ACK),
        Client(ACK),
        Server(ACK | PSH),
    ] {
        walk(&mut bench, &connection, &[step]);
        bench.hook = match bench.hook {
            Hook::Xdp => Hook::Tc,
            _ => Hook::Xdp,
        };
    }
    bench.holds(&[&connection.described("ESTABLISHED")]);
    let count = bench.datapath.rule_count("pop3").expect("reading a map");
    assert_eq!((count.xdp_packets, count.tc_packets), (2, 2));
}
