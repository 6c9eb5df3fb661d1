//! Both ends of the connections that the bench plays, each frame looked at by code that has no part in making it.

use anyhow::{Result, ensure};
use bench::count::Expected;
use bench::net::Net;
use bench::plan::{Kind, Traffic};
use bench::programs::Programs;
use bench::tcp::{MESSAGE, OPTIONS, SERVER_START};
use tests::packet::checksum::faults;
use tests::packet::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use tests::packet::{Packet, Tcp, Transport, decode};

/// Of include/uapi/linux/bpf.h.
const REDIRECT: u32 = 4;
const DROP: u32 = 1;

const CLIENT: &str = "10.0.0.1:1024";
const SERVER: &str = "192.0.2.1:10000";

/// Programs whose server is where their clients think it is: nobody translates in between.
fn programs(whole: bool) -> Result<Programs> {
    let mut programs = Programs::load()?;
    let server = Net::low(false, Net::LISTENER).to_be();
    programs.set_expected(Expected {
        destination: server,
        source: server,
        stamp: 0,
        whole: u32::from(whole),
    })?;
    Ok(programs)
}

fn tcp(packet: &Packet) -> &Tcp {
    match &packet.transport {
        Transport::Tcp(tcp) => tcp,
        other => panic!("{other:?} is not TCP"),
    }
}

/// Has an end hear a frame, and looks at all of its answer but what TCP says in it.
fn answer(programs: &Programs, end: &str, heard: &[u8]) -> Result<(Packet, Vec<u8>)> {
    let (verdict, frame) = programs.hear(end, heard)?;
    ensure!(verdict == REDIRECT, "verdict {verdict}");
    let found = faults(&frame);
    ensure!(found.is_empty(), "{found:?} in {frame:02x?}");
    let (before, after) = (decode(heard)?, decode(&frame)?);
    let macs = [before.ethernet.source, before.ethernet.destination];
    assert_eq!([after.ethernet.destination, after.ethernet.source], macs);
    assert_eq!(after.ip.destination(), before.ip.source());
    assert_eq!(after.ip.source(), before.ip.destination());
    let (heard, said) = (tcp(&before), tcp(&after));
    assert_eq!(said.destination_port, heard.source_port);
    assert_eq!(said.source_port, heard.destination_port);
    Ok((after, frame))
}

/// Flags, sequence and acknowledgment number, and how much payload.
fn said(packet: &Packet) -> (u8, u32, u32, usize) {
    let tcp = tcp(packet);
    let acknowledged = tcp.acknowledgment;
    (tcp.flags, tcp.sequence, acknowledged, packet.payload.len())
}

/// The generator's own SYN.
fn syn(programs: &mut Programs) -> Result<Vec<u8>> {
    let traffic = Traffic {
        kind: Kind::Syn,
        ..Traffic::flood(1, 1)
    };
    programs.set_plan(traffic.plan(1))?;
    let (_, frame) = programs.one(&vec![0xa5; traffic.length()])?;
    Ok(frame)
}

#[test]
fn a_connection_is_opened_asked_answered_and_closed() -> Result<()> {
    let mut programs = programs(true)?;
    let first = syn(&mut programs)?;
    let start = tcp(&decode(&first)?).sequence;
    assert_eq!(tcp(&decode(&first)?).options, OPTIONS);
    let message = MESSAGE as usize;
    let (client, server) = (start + 1, SERVER_START + 1);
    let turns = [
        ("server", (SYN | ACK, SERVER_START, client, 0)),
        ("client", (PSH | ACK, client, server, message)),
        ("server", (PSH | ACK, server, client + MESSAGE, message)),
        ("client", (FIN | ACK, client + MESSAGE, server + MESSAGE, 0)),
        (
            "server",
            (FIN | ACK, server + MESSAGE, client + MESSAGE + 1, 0),
        ),
        (
            "client",
            (ACK, client + MESSAGE + 1, server + MESSAGE + 1, 0),
        ),
    ];
    let mut frame = first;
    for (index, (end, expected)) in turns.into_iter().enumerate() {
        let (packet, answered) = answer(&programs, end, &frame)?;
        assert_eq!(said(&packet), expected, "answer {index}");
        let options: &[u8] = if index == 0 { &OPTIONS } else { &[] };
        assert_eq!(tcp(&packet).options, options);
        frame = answered;
    }
    // Both ends have said all.
    assert_eq!(programs.counted()?.packets, 0);
    assert_eq!(programs.hear("server", &frame)?.0, DROP);
    let counted = programs.counted()?;
    assert_eq!((counted.packets, counted.others), (1, 0));
    Ok(())
}

#[test]
fn a_connection_is_only_opened() -> Result<()> {
    let mut programs = programs(false)?;
    let mut frame = syn(&mut programs)?;
    let start = tcp(&decode(&frame)?).sequence;
    let (client, server) = (start + 1, SERVER_START + 1);
    for (end, expected) in [
        ("server", (SYN | ACK, SERVER_START, client, 0)),
        ("client", (ACK, client, server, 0)),
        // With the window in the unit that the SYN's answer has named.
        ("server", (ACK, server, client, 0)),
    ] {
        let (packet, answered) = answer(&programs, end, &frame)?;
        assert_eq!(said(&packet), expected);
        assert_eq!(tcp(&packet).window, 0xffff);
        frame = answered;
    }
    assert_eq!(programs.hear("client", &frame)?.0, DROP);
    let counted = programs.counted()?;
    assert_eq!((counted.packets, counted.others), (1, 0));
    Ok(())
}

#[test]
fn what_the_other_end_does_not_say_is_counted() -> Result<()> {
    let programs = programs(true)?;
    // An answer that still comes from the backend, a reset, and a SYN that was not translated.
    for (end, packet) in [
        (
            "client",
            Packet::tcp("198.51.100.2:10000", CLIENT, SYN | ACK),
        ),
        ("client", Packet::tcp(SERVER, CLIENT, RST | ACK)),
        ("server", Packet::syn(CLIENT, "203.0.113.1:10000")),
    ] {
        let before = programs.counted()?;
        let (verdict, _) = programs.hear(end, &packet.to_bytes())?;
        assert_eq!(verdict, DROP);
        let after = programs.counted()?;
        assert_eq!(after.others - before.others, 1, "{packet:?}");
        assert_eq!(after.packets, before.packets);
    }
    Ok(())
}
