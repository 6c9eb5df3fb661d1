//! Flows that nobody uses vanish, each kind in its time, and no other.

use std::collections::BTreeMap;
use std::time::Duration;

use forwarder::config::Timeouts;
use forwarder::datapath::{Clock, States};
use rstest::rstest;
use tests::packet::tcp_flags::{ACK, FIN, RST, SYN};

use super::bench::{Bench, Hook};
use super::family::Family;
use super::traffic::{Connection, LISTENER, SERVER, tcp, udp};
use super::translate::RULE;

fn client(host: u8) -> Connection {
    let client = format!("198.51.100.{host}:25000");
    Connection::new(&client, LISTENER, &client, SERVER)
}

/// The time `later` from now. What a tick is worth does not matter here.
fn after(bench: &mut Bench, later: Duration) -> Clock {
    let mut clock = bench.datapath.clock(100).expect("the clock program runs");
    clock.now += u64::try_from(later.as_millis()).expect("days, not ages") / 10;
    clock
}

/// Sweeps `seconds` from now and asserts what is left and how many were removed.
#[track_caller]
pub fn sweep(bench: &mut Bench, seconds: u64, removed: u64, left: &[String]) {
    let clock = after(bench, Duration::from_secs(seconds));
    let swept = bench.datapath.sweep(&clock, &Timeouts::default());
    let swept = swept.expect("the tables can be read");
    let left: Vec<_> = left.iter().map(String::as_str).collect();
    bench.holds(&left);
    assert_eq!(swept.removed, removed, "removed after {seconds} s");
    let (flows, half_open) = bench
        .datapath
        .flow_counts()
        .expect("the tables can be read");
    let census = &swept.census;
    assert_eq!(census.established.iter().sum::<u64>(), flows);
    assert_eq!(census.half_open.iter().sum::<u64>(), half_open);
    assert_eq!(census.flows, states(bench));
    // The slots of those that were removed are free with the next sweep only.
    assert_eq!(swept.rules.is_empty(), left.is_empty() && removed == 0);
}

/// Flows by rule, protocol and state, looked at one by one.
fn states(bench: &Bench) -> BTreeMap<(u32, u8), States> {
    let mut counts = BTreeMap::<_, States>::new();
    for flow in bench.flows() {
        let id = (flow.original_entry.rule, flow.original.protocol);
        counts.entry(id).or_default()[flow.state() as usize] += 1;
    }
    counts
}

#[rstest]
fn every_state_has_its_time(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    const DAY: u64 = 24 * 60 * 60;
    let mut bench = Bench::new((hook, family), RULE);
    let [unreplied, stream, syn_sent, established, time_wait, reset] =
        [1, 2, 3, 4, 5, 6].map(client);
    unreplied.send(&mut bench, &udp());
    stream.send(&mut bench, &udp());
    stream.answer(&mut bench, &udp());
    syn_sent.send(&mut bench, &tcp(SYN));
    established.handshake(&mut bench);
    time_wait.handshake(&mut bench);
    time_wait.send(&mut bench, &tcp(FIN | ACK));
    time_wait.answer(&mut bench, &tcp(FIN | ACK));
    reset.handshake(&mut bench);
    reset.answer(&mut bench, &tcp(RST));

    let mut left = vec![
        established.described("ESTABLISHED"),
        stream.described("STREAM"),
        syn_sent.described("SYN_SENT"),
        time_wait.described("TIME_WAIT"),
        reset.described("CLOSE"),
        unreplied.described("UNREPLIED"),
    ];
    sweep(&mut bench, 0, 0, &left);
    sweep(&mut bench, 25, 0, &left);
    left.truncate(5);
    sweep(&mut bench, 32, 1, &left);
    sweep(&mut bench, 175, 0, &left);
    left.remove(1);
    sweep(&mut bench, 182, 1, &left);
    sweep(&mut bench, 235, 0, &left);
    left.truncate(1);
    sweep(&mut bench, 242, 3, &left);
    sweep(&mut bench, 5 * DAY - 60, 0, &left);
    sweep(&mut bench, 5 * DAY + 2, 1, &[]);
    bench.counts(0, 0);
    // What has expired begins anew.
    unreplied.send(&mut bench, &udp());
    established.handshake(&mut bench);
}

/// A packet of either direction keeps both.
#[rstest]
fn one_direction_keeps_the_other(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut bench = Bench::new((hook, family), RULE);
    let connection = client(1);
    connection.send(&mut bench, &udp());
    connection.answer(&mut bench, &udp());
    // The original direction stays silent for two seconds, the reply is of this moment.
    std::thread::sleep(Duration::from_secs(2));
    connection.answer(&mut bench, &udp());
    let [flow] = bench.flows().try_into().expect("one flow");
    let clock = bench.datapath.calibrate().expect("the clock program runs");
    let silent = clock.since(flow.original_entry.last_seen);
    assert!(silent >= Duration::from_millis(1900), "{silent:?}");
    assert!(flow.idle(&clock) < Duration::from_millis(1900));
    assert!(clock.since_created(flow.original_entry.created) >= Duration::from_millis(900));
    let timeouts = Timeouts {
        udp_stream: Duration::from_millis(1900),
        ..Timeouts::default()
    };
    let swept = bench
        .datapath
        .sweep(&clock, &timeouts)
        .expect("the tables can be read");
    let established: u64 = swept.census.established.iter().sum();
    assert_eq!((established, swept.removed), (1, 0));
}

/// An end that the sweep has made free is taken by the next client.
#[rstest]
fn an_expired_flow_gives_its_port_back(
    #[values(Hook::Xdp, Hook::Tc)] hook: Hook,
    #[values(Family::V4, Family::V6)] family: Family,
) {
    let mut setup = super::bench::Setup::new(&format!("{RULE}source = \"masquerade\"\n"));
    setup.ports = (25_000, 25_000);
    let mut bench = Bench::with((hook, family), &setup);
    for host in 1..4 {
        let connection = Connection {
            source: "10.0.0.1:25000".to_owned(),
            ..client(host)
        };
        connection.send(&mut bench, &udp());
        sweep(&mut bench, 32, 1, &[]);
    }
}
