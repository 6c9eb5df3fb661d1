//! The packets that the generator makes, out of the kernel and checked by code that has no part in making them.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use anyhow::{Result, ensure};
use bench::net::Net;
use bench::plan::{Kind, Order, Pace, Traffic};
use bench::programs::Programs;
use bench::tcp::SERVER_START;
use bench::wire::Plan;
use rstest::rstest;
use tests::packet::checksum::faults;
use tests::packet::tcp_flags::ACK;
use tests::packet::{Packet, Tcp, Transport, decode};

/// `XDP_REDIRECT` and `XDP_DROP` in include/uapi/linux/bpf.h.
const REDIRECT: u32 = 4;
const DROP: u32 = 1;

fn traffic(v6: bool, kind: Kind, order: Order) -> Traffic {
    Traffic {
        v6,
        kind,
        order,
        ..Traffic::flood(500, 7)
    }
}

fn ports(transport: &Transport) -> (u16, u16) {
    match transport {
        Transport::Udp(udp) => (udp.source_port, udp.destination_port),
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        other => panic!("{other:?}"),
    }
}

#[rstest]
fn packets_are_whole_and_flows_differ(
    #[values(false, true)] v6: bool,
    #[values(Kind::Udp, Kind::Syn, Kind::Ack)] kind: Kind,
    #[values(false, true)] stamp: bool,
) -> Result<()> {
    let mut programs = Programs::load()?;
    let traffic = Traffic {
        stamp,
        ..traffic(v6, kind, Order::Sequential)
    };
    programs.set_plan(traffic.plan(1))?;
    let mut seen = HashSet::new();
    for _ in 0..traffic.flows {
        // What is in the frame before must not matter.
        let (verdict, frame) = programs.one(&vec![0xa5; traffic.length()])?;
        ensure!(verdict == REDIRECT, "verdict {verdict}");
        let found = faults(&frame);
        ensure!(found.is_empty(), "{found:?} in {frame:02x?}");
        let packet = decode(&frame)?;
        assert_eq!(packet.ethernet.destination, Net::ROUTER_IN_MAC);
        assert_eq!(packet.ip.destination(), Net::pick(v6, Net::LISTENER));
        let (source, port) = ports(&packet.transport);
        assert!((Net::PORT..Net::PORT + 7).contains(&port), "to port {port}");
        assert!(source >= 1024, "from port {source}");
        seen.insert((packet.ip.source(), source, port));
    }
    assert_eq!(seen.len(), traffic.flows as usize, "distinct flows");
    // From the start again.
    let (_, frame) = programs.one(&vec![0; traffic.length()])?;
    let packet = decode(&frame)?;
    let (source, port) = ports(&packet.transport);
    assert!(seen.contains(&(packet.ip.source(), source, port)));
    Ok(())
}

#[test]
fn chance_stays_within_the_flows() -> Result<()> {
    let mut programs = Programs::load()?;
    let [known, random] = [Order::Sequential, Order::Random].map(|order| Traffic {
        flows: 50,
        ..traffic(false, Kind::Udp, order)
    });
    let mut sets = [HashSet::new(), HashSet::new()];
    for (traffic, set) in [known, random].iter().zip(&mut sets) {
        programs.set_plan(traffic.plan(1))?;
        for _ in 0..600 {
            let (_, frame) = programs.one(&vec![0; traffic.length()])?;
            let packet = decode(&frame)?;
            set.insert((packet.ip.source(), ports(&packet.transport)));
        }
    }
    // After 600 throws of 50 one that never came is one chance in 4,000.
    assert_eq!(sets[0], sets[1]);
    Ok(())
}

#[test]
fn a_limit_and_a_window_hold_the_generator_back() -> Result<()> {
    let mut programs = Programs::load()?;
    let limited = Traffic {
        limit: 3,
        ..traffic(false, Kind::Udp, Order::Sequential)
    };
    let windowed = Traffic {
        pace: Pace::Window {
            places: 3,
            burst: 1,
        },
        ..traffic(false, Kind::Udp, Order::Sequential)
    };
    // The second burst would leave no more than one place to the last.
    let bursts = Traffic {
        pace: Pace::Window {
            places: 5,
            burst: 2,
        },
        ..windowed
    };
    programs.set_plan(bursts.plan(1))?;
    let mut verdicts = Vec::new();
    for _ in 0..6 {
        verdicts.push(programs.one(&vec![0; bursts.length()])?.0);
    }
    assert_eq!(
        verdicts,
        [REDIRECT, REDIRECT, REDIRECT, REDIRECT, DROP, DROP]
    );
    for traffic in [limited, windowed] {
        programs.set_plan(traffic.plan(1))?;
        let mut verdicts = Vec::new();
        for _ in 0..5 {
            verdicts.push(programs.one(&vec![0; traffic.length()])?.0);
        }
        assert_eq!(verdicts, [REDIRECT, REDIRECT, REDIRECT, DROP, DROP]);
        assert_eq!(programs.progress()?.sent, 3);
    }
    Ok(())
}

#[rstest]
fn segments_of_a_flow_follow_each_other(#[values(1, 3)] train: u32) -> Result<()> {
    const FLOWS: u32 = 4;
    /// What is left of a frame's 1,514 bytes behind Ethernet, IPv4 and TCP.
    const PAYLOAD: u32 = 1460;
    let mut programs = Programs::load()?;
    let traffic = Traffic {
        flows: FLOWS,
        ..traffic(false, Kind::Segment { train }, Order::Sequential)
    };
    let opened = Traffic {
        kind: Kind::Syn,
        ..traffic
    };
    let mut starts = HashMap::new();
    programs.set_plan(opened.plan(1))?;
    for _ in 0..FLOWS {
        let (_, frame) = programs.one(&vec![0; opened.length()])?;
        let packet = decode(&frame)?;
        starts.insert(flow(&packet), tcp(&packet).sequence);
    }
    // A short way until numbers begin anew.
    let turns = 2 * train;
    programs.set_plan(Plan {
        turns,
        ..traffic.plan(1)
    })?;
    let mut sent: Vec<(Flow, u32)> = Vec::new();
    for _ in 0..FLOWS * turns * 2 {
        let (verdict, frame) = programs.one(&vec![0; traffic.length()])?;
        ensure!(verdict == REDIRECT, "verdict {verdict}");
        let found = faults(&frame);
        ensure!(found.is_empty(), "{found:?}");
        let packet = decode(&frame)?;
        let tcp = tcp(&packet);
        assert_eq!((tcp.flags, tcp.acknowledgment), (ACK, SERVER_START + 1));
        assert_eq!(
            (frame.len(), packet.payload.len()),
            (1514, PAYLOAD as usize)
        );
        sent.push((flow(&packet), tcp.sequence - starts[&flow(&packet)] - 1));
    }
    for (index, (flow, offset)) in sent.iter().enumerate() {
        let index = index as u32;
        let (turn, place) = (index / (FLOWS * train), index % train);
        assert_eq!(*offset, (turn * train + place) % turns * PAYLOAD);
        let leader = sent[(index - place) as usize].0;
        assert_eq!(*flow, leader, "segment {index} is not in its train");
    }
    Ok(())
}

type Flow = (IpAddr, (u16, u16));

fn flow(packet: &Packet) -> Flow {
    (packet.ip.source(), ports(&packet.transport))
}

fn tcp(packet: &Packet) -> &Tcp {
    match &packet.transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("{other:?} is not TCP"),
    }
}
