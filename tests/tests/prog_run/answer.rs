//! What the sender of a packet is told that goes no further.

use std::thread::sleep;
use std::time::Duration;

use forwarder_common::reason::Reason;
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use tests::packet::{IcmpError, Packet};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::topology::Device;
use super::traffic::{Connection, syn, tcp, udp};
use super::translate::RULE;

/// A rule that answers unknown connections.
fn reset_unknown() -> String {
    RULE.replace(", \"udp\"", "") + "reset-unknown = true\n"
}

/// Whole words, and at most what keeps the message at 576 bytes (RFC 1812) or 1280 (RFC 4443).
#[rstest]
fn as_much_is_quoted_as_may_be(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = Connection::default();
    let most = match family {
        Family::V4 => 576 - 20 - 8,
        Family::V6 => 1280 - 40 - 8,
    };
    let headers = family.header() as usize + 8;
    for length in [0, 1, 2, 3, 4, 100, most - headers, most - headers + 1, 1400] {
        let payload: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let packet = udp().with_payload(&payload);
        let sent = connection.request(packet).with_ttl(1);
        let expected = bench.error(Device::Wan, IcmpError::TimeExceeded, &sent);
        let quoted = (headers + length).min(most) & !3;
        assert_eq!(expected.payload.len(), quoted, "the test's own idea of it");
        bench.answers(Device::Wan, &sent, Reason::TtlExpired, &expected);
    }
    bench.holds(&[]);
}

/// Ethernet's padding is no part of the packet.
#[rstest]
fn padding_is_not_quoted(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let mut sent = Connection::default().request(udp()).with_ttl(1);
    sent.trailer = vec![0xee; 20];
    let expected = bench.error(Device::Wan, IcmpError::TimeExceeded, &sent);
    bench.answers(Device::Wan, &sent, Reason::TtlExpired, &expected);
}

/// IPv4 options are part of the quote and none of the answer.
#[rstest]
fn options_are_quoted(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    let mut bench = Bench::new(hook, RULE);
    for words in 1..=10 {
        for packet in [udp(), syn()] {
            let packet = packet.with_ip_options(&vec![1; words * 4]);
            let sent = Connection::default().request(packet).with_ttl(1);
            let expected = bench.error(Device::Wan, IcmpError::TimeExceeded, &sent);
            bench.answers(Device::Wan, &sent, Reason::TtlExpired, &expected);
        }
    }
}

#[rstest]
#[case::ack(tcp(ACK))]
#[case::data(tcp(ACK | PSH))]
#[case::syn_ack(tcp(SYN | ACK))]
#[case::fin_ack(tcp(FIN | ACK))]
#[case::null(tcp(0))]
#[case::data_without_ack(tcp(PSH))]
#[case::fin_with_data(tcp(FIN | PSH))]
#[case::syn_fin(tcp(SYN | FIN))]
#[case::at_the_wrap({
    let mut packet = tcp(FIN | PSH);
    packet.tcp_mut().sequence = u32::MAX - 3;
    packet
})]
#[case::options(syn().with_payload(b"early").with_tcp_options(&[1; 40]))]
fn unknown_connections_are_reset(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
    #[case] packet: Packet,
) {
    let mut bench = Bench::new((hook, family), &reset_unknown());
    let mut packet = packet;
    if packet.tcp_mut().flags == SYN {
        packet.tcp_mut().flags |= ACK;
    }
    let sent = Connection::default().request(packet);
    let expected = bench.reset(&sent);
    bench.answers(Device::Wan, &sent, Reason::TcpNoFlow, &expected);
    bench.answers(
        Device::Wan,
        &sent.with_padding(),
        Reason::TcpNoFlow,
        &expected,
    );
    bench.holds(&[]);
}

/// A RST is never answered (RFC 9293 section 3.10.7.1), nor is what there is no room in for an answer.
#[rstest]
fn what_is_not_reset(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), &reset_unknown());
    let connection = Connection::default();
    for flags in [RST, RST | ACK, RST | SYN] {
        let packet = connection.request(tcp(flags));
        bench.refuses(Device::Wan, &packet, Reason::TcpNoFlow);
    }
    if family == Family::V4 {
        let packet = connection.request(tcp(ACK).with_ip_options(&[1; 4]));
        bench.refuses(Device::Wan, &packet, Reason::TcpNoFlow);
    }
    // Without the option nobody is told.
    bench.reload(RULE);
    let packet = connection.request(tcp(ACK));
    bench.refuses(Device::Wan, &packet, Reason::TcpNoFlow);
}

/// A device without address to speak from says nothing.
#[rstest]
fn without_an_address_there_is_no_error(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    bench.datapath.set_addresses(&[]).expect("no addresses");
    let sent = Connection::default().request(udp()).with_ttl(1);
    bench.refuses(Device::Wan, &sent, Reason::TtlExpired);
}

/// veth must be redirected to even on the way back, see `REDIRECT_ONLY`.
#[test]
fn an_answer_leaves_as_the_device_wants_it() {
    let mut bench = Bench::new(Hook::Xdp, RULE);
    let mut links = bench.links();
    for link in &mut links {
        link.redirect_only = true;
    }
    bench.datapath.set_devices(&links).expect("devices");
    let sent = Connection::default().request(udp()).with_ttl(1);
    let run = bench.run(Device::Wan, &sent.to_bytes());
    assert_eq!(run.verdict, 4, "XDP_REDIRECT");
}

/// One thousand in a second by each CPU; every packet is counted nevertheless.
#[rstest]
fn answers_are_limited(#[values(Hook::Xdp, Hook::Tc)] hook: Hook) {
    const SECOND: Duration = Duration::from_millis(1100);
    const PACKETS: u32 = 4000;
    let mut bench = Bench::new(hook, RULE);
    let packet = Connection::default().request(udp()).with_ttl(1).to_bytes();
    let index = bench.index(Device::Wan);
    let before = bench.counted();
    sleep(SECOND);
    let Bench {
        namespace,
        datapath,
        ..
    } = &mut bench;
    let flood = || {
        let mut answered = 0;
        for _ in 0..PACKETS {
            let run = match hook {
                Hook::Xdp => datapath.run_xdp(&packet, index),
                _ => datapath.run_tc(&packet, index),
            };
            let run = run.expect("a test run");
            let dropped = run.verdict == if hook == Hook::Xdp { 1 } else { 2 };
            assert_eq!(dropped, run.packet == packet, "dropped untouched");
            answered += u32::from(!dropped);
        }
        answered
    };
    let answered = namespace.run(flood).expect("entering the namespace");
    // The thread may have been on two CPUs, or longer than a second on one.
    assert!((1000..=3000).contains(&answered), "{answered} answers");
    let mut wanted = before;
    *wanted.reasons.entry(Reason::TtlExpired.name()).or_default() += u64::from(PACKETS);
    assert_eq!(bench.counted(), wanted);
    sleep(SECOND);
    let sent = Connection::default().request(udp()).with_ttl(1);
    let expected = bench.error(Device::Wan, IcmpError::TimeExceeded, &sent);
    bench.answers(Device::Wan, &sent, Reason::TtlExpired, &expected);
}
