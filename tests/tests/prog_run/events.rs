//! What the programs tell of flows that begin and end, byte for byte as userspace reads it.

use std::time::Duration;

use forwarder::config::Timeouts;
use forwarder::datapath::{EventSwitch, Events, Flow, Happening};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use tests::packet::tcp_flags::{ACK, FIN, RST, SYN};

use super::bench::{Bench, Hook, SMALL, Setup};
use super::family::Family;
use super::flows::describe;
use super::loaded::Loaded;
use super::topology::Device;
use super::traffic::{Connection, LISTENER, SERVER, syn, tcp, udp};

const RULE: &str = "\
[[forward]]
name = \"pop3\"
listen = \"203.0.113.5:110\"
to = \"10.0.0.2\"
protocol = [\"tcp\", \"udp\"]
source = \"masquerade\"
";

const ALL: u32 = Happening::Opened.bit() | Happening::Established.bit() | Happening::Closed.bit();

/// A gateway, and the other end of its ring.
struct Told {
    bench: Bench,
    events: Events,
    switch: EventSwitch,
}

impl Told {
    fn want(&self, kinds: u32) {
        self.switch.want(kinds).expect("the switch");
    }

    /// What has been told since the last time, in words.
    fn heard(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        self.events.read(usize::MAX, |event| {
            let Flow {
                original_entry: original,
                reply_entry: reply,
                ..
            } = &event.flow;
            let counts = match event.what {
                Happening::Closed => format!(
                    ", {} packets of {} bytes, {} of {}",
                    original.packets(),
                    original.bytes,
                    reply.packets(),
                    reply.bytes
                ),
                _ => String::new(),
            };
            heard.push(format!(
                "{:?}: {}{counts}",
                event.what,
                describe(&event.flow)
            ));
        });
        heard
    }

    #[track_caller]
    fn hears(&mut self, expected: &[String]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|line| self.bench.family.text(line))
            .collect();
        let (hook, family) = (self.bench.hook, self.bench.family);
        assert_eq!(self.heard(), expected, "{hook:?} {family:?}");
    }
}

fn connection() -> Connection {
    Connection {
        source: "10.0.0.1:25000".to_owned(),
        ..Connection::default()
    }
}

fn setup() -> Setup {
    let mut setup = Setup::new(RULE);
    setup.ports = (25_000, 25_000);
    setup
}

/// One load for all of them, since the ring has one reader.
#[test]
fn flows_are_told_of_as_they_begin_and_end() {
    stay_here().expect("a CPU");
    let mut loaded = Loaded::new(SMALL);
    let (mut events, mut switch) = loaded.take_events().expect("nobody has taken them");
    for hook in [Hook::Xdp, Hook::Tc] {
        for family in [Family::V4, Family::V6] {
            let mut told = Told {
                bench: Bench::on(loaded, (hook, family), &setup()),
                events,
                switch,
            };
            nothing_unless_wanted(&mut told);
            tcp_in_order(&mut told);
            udp_in_order(&mut told);
            the_sweep_tells(&mut told);
            told.want(0);
            (loaded, events, switch) = (told.bench.datapath, told.events, told.switch);
        }
    }
}

/// Programs are loaded when something needs them, which may be long after whoever heard of events has gone.
#[test]
fn programs_need_nobody_who_listens() {
    let mut loaded = Loaded::new(SMALL);
    drop(loaded.take_events());
    let mut bench = Bench::on(loaded, (Hook::Tc, Family::V4), &setup());
    connection().send(&mut bench, &udp());
}

/// On one CPU: a program that reopens a flow knows what its own has counted in the cache.
fn stay_here() -> nix::Result<()> {
    let mut here = CpuSet::new();
    here.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &here)
}

fn nothing_unless_wanted(told: &mut Told) {
    told.want(0);
    connection().handshake(&mut told.bench);
    told.hears(&[]);
    connection().send(&mut told.bench, &tcp(RST));
    told.want(Happening::Established.bit());
    connection().handshake(&mut told.bench);
    let established = connection().described("ESTABLISHED");
    told.hears(&[format!("Established: {established}")]);
    connection().send(&mut told.bench, &tcp(RST));
}

/// The tuple of the connection before, which is told to be gone first.
fn tcp_in_order(told: &mut Told) {
    told.want(ALL);
    let bench = &mut told.bench;
    connection().send(bench, &syn());
    connection().send(bench, &syn());
    connection().answer(bench, &tcp(SYN | ACK));
    connection().send(bench, &tcp(ACK));
    connection().send(bench, &tcp(ACK));
    connection().send(bench, &tcp(FIN | ACK));
    connection().answer(bench, &tcp(FIN | ACK));
    // The same tuple once more.
    connection().send(bench, &syn());
    let said = |what: &str, state: &str| format!("{what}: {}", connection().described(state));
    let heard = told.heard();
    let text = |line: String| told.bench.family.text(&line);
    let [reset, rest @ ..] = heard.as_slice() else {
        panic!("nothing was heard")
    };
    assert!(reset.starts_with(&text(said("Closed", "CLOSE"))), "{reset}");
    let header = match told.bench.family {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    // Two SYNs with options, two acknowledgments, and the FIN.
    let options = syn().to_bytes().len() - tcp(ACK).to_bytes().len();
    let sent = 5 * header + 2 * options;
    let counts = format!("5 packets of {sent} bytes, 2 of {}", 2 * header);
    assert_eq!(
        rest,
        [
            text(said("Opened", "SYN_SENT")),
            text(said("Established", "ESTABLISHED")),
            format!("{}, {counts}", text(said("Closed", "TIME_WAIT"))),
            text(said("Opened", "SYN_SENT")),
        ]
    );
}

fn udp_in_order(told: &mut Told) {
    let bench = &mut told.bench;
    connection().send(bench, &udp());
    connection().send(bench, &udp());
    connection().answer(bench, &udp());
    connection().answer(bench, &udp());
    // Ended from outside, it begins anew with the client's next packet.
    let mut flows = bench.flows();
    flows.retain(|flow| flow.original.protocol == 17);
    assert_eq!(flows.len(), 1);
    bench.datapath.end_flows(&flows).expect("the tables");
    connection().send(bench, &udp());
    let heard = told.heard();
    let begin = |what: &str, state: &str| {
        let line = format!("{what}: {}", connection().described(state));
        told.bench.family.text(&line)
    };
    let expected = [
        begin("Opened", "UNREPLIED"),
        begin("Established", "UNREPLIED"),
        begin("Closed", "STREAM"),
        begin("Opened", "UNREPLIED"),
    ];
    assert_eq!(heard.len(), expected.len(), "{heard:#?}");
    for (line, expected) in heard.iter().zip(&expected) {
        assert!(line.starts_with(expected), "{line}, expected {expected}");
    }
}

/// Of what it removes, with all that was counted, also where that was pending in the flow cache.
fn the_sweep_tells(told: &mut Told) {
    let bench = &mut told.bench;
    for _ in 0..3 {
        connection().answer(bench, &udp());
    }
    let mut clock = bench.datapath.clock(100).expect("the clock program runs");
    clock.now += 100 * 40;
    let mut removed = Vec::new();
    let timeouts = Timeouts {
        udp_stream: Duration::from_secs(30),
        ..Timeouts::default()
    };
    let mut tell = |flow: Flow| removed.push(flow);
    let swept = bench
        .datapath
        .sweep_telling(&clock, &timeouts, Some(&mut tell))
        .expect("the tables");
    assert_eq!(swept.removed, 1);
    let [flow] = removed.try_into().expect("one flow");
    let expected = connection().described("STREAM");
    assert_eq!(describe(&flow), told.bench.family.text(&expected));
    let counts = (flow.original_entry.packets(), flow.reply_entry.packets());
    assert_eq!(counts, (1, 3));
    told.heard();
}

/// What the ring has no room for is counted, and the flows are made all the same.
#[test]
fn a_ring_that_is_full_costs_events_only() {
    const FLOWS: u16 = 48_000;
    let mut setup = Setup::new(&RULE.replace("masquerade", "preserve"));
    setup.sizes.flows = u32::from(FLOWS);
    let mut loaded = Loaded::new(setup.sizes);
    let (mut events, switch) = loaded.take_events().expect("nobody has taken them");
    let mut bench = Bench::on(loaded, Hook::Xdp, &setup);
    switch.want(ALL).expect("the switch");
    for port in 1024..1024 + FLOWS {
        let client = format!("198.51.100.7:{port}");
        let packet = Connection::new(&client, LISTENER, &client, SERVER).request(udp());
        bench.run(Device::Wan, &packet.to_bytes());
    }
    let (flows, _) = bench.datapath.flow_counts().expect("the tables");
    assert_eq!(flows, u64::from(FLOWS));
    let lost = bench
        .datapath
        .view()
        .now()
        .events_lost()
        .expect("the counter");
    let told = events.read(usize::MAX, |_| {}) as u64;
    assert_eq!(told + lost, u64::from(FLOWS));
    assert!(lost > 0, "the ring has room for {told}");
    // Once it was read it takes events again.
    let client = "198.51.100.7:1024";
    let connection = Connection::new(client, LISTENER, client, SERVER);
    connection.answer(&mut bench, &udp());
    let mut heard = Vec::new();
    events.read(usize::MAX, |event| heard.push(event.what));
    assert_eq!(heard, [Happening::Established]);
    switch.want(0).expect("the switch");
}
