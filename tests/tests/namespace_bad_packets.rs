//! Packets no client should send: none reaches the server, and those that follow pass as if nothing had been.

use anyhow::Result;
use rstest::rstest;
use tests::packet::{Checksum, Packet, Transport, tcp_flags};
use tests::probe::Capture;
use tests::process::wait_until;
use tests::responder::{PATIENCE, Server, connect, pop3, pop3_client};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Engine, Outcome, Rig, Rule, S0};

const CLIENT: &str = "198.51.100.7:40000";
const LISTENER: &str = "203.0.113.5:110";

fn syn() -> Packet {
    Packet::syn(CLIENT, LISTENER).with_macs(S0::ROUTER_MAC, S0::GATEWAY_MAC)
}

/// The frame with some bytes of its IP packet replaced: (offset in the packet, byte).
fn spoilt(packet: &Packet, edits: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = packet.to_bytes();
    for (offset, byte) in edits {
        frame[packet.network_offset() + offset] = *byte;
    }
    frame
}

/// Cut `length` bytes after the beginning of the IP packet.
fn cut(packet: &Packet, length: usize) -> Vec<u8> {
    let mut frame = packet.to_bytes();
    frame.truncate(packet.network_offset() + length);
    frame
}

fn bad_frames() -> Vec<Vec<u8>> {
    let syn = syn();
    let mut bad_ip_checksum = syn.clone();
    bad_ip_checksum.ipv4_mut().checksum = Checksum::Wire(0xdead);
    let stray =
        |flags| Packet::tcp(CLIENT, LISTENER, flags).with_macs(S0::ROUTER_MAC, S0::GATEWAY_MAC);
    vec![
        // Version 5; a header length of 16 bytes; one that is longer than the packet.
        spoilt(&syn, &[(0, 0x55)]),
        spoilt(&syn, &[(0, 0x44)]),
        spoilt(&cut_packet(&syn), &[(0, 0x4f)]),
        // A total length below the header's, and one beyond the frame.
        spoilt(&syn, &[(2, 0), (3, 19)]),
        spoilt(&syn, &[(2, 5), (3, 220)]),
        bad_ip_checksum.to_bytes(),
        syn.clone().with_checksum(Checksum::Wire(0xdead)).to_bytes(),
        // A TCP data offset of 16 bytes, and one beyond the packet.
        spoilt(&syn, &[(32, 0x40)]),
        spoilt(&syn, &[(32, 0xf0)]),
        // Nothing behind the Ethernet header, half an IP header, half a TCP header.
        cut(&syn, 0),
        cut(&syn, 10),
        cut(&syn, 30),
        // Segments of no connection.
        stray(tcp_flags::ACK).with_payload(b"stray").to_bytes(),
        stray(tcp_flags::RST).to_bytes(),
        stray(tcp_flags::FIN | tcp_flags::ACK).to_bytes(),
        // "Christmas tree", and no flag at all.
        stray(0xff).to_bytes(),
        stray(0).to_bytes(),
        // The source route option of RFC 791, which every router refuses today.
        syn.clone()
            .with_ip_options(&[131, 7, 4, 195, 228, 245, 1, 0])
            .to_bytes(),
        // Arrived with nothing left to live on.
        syn.clone().with_ttl(0).to_bytes(),
        syn.clone().with_ttl(1).to_bytes(),
    ]
}

/// A packet that ends with its IP header.
fn cut_packet(packet: &Packet) -> Packet {
    let mut packet = packet.clone();
    packet.transport = Transport::Other(6);
    packet
}

fn scenario(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s0(
        engine,
        &[Rule::masquerade("pop3", LISTENER, "195.228.245.1:110")],
    )?;
    let server = Server::start(&rig.hosts.server, "195.228.245.1:110", pop3)?;
    rig.observe(|hosts| {
        let frames = bad_frames();
        let received = || {
            hosts
                .gateway
                .device_counters(S0::DEVICE)
                .map(|counters| counters.rx_packets)
        };
        let (before, opened) = (received()?, hosts.server.counters()?);
        hosts.internet.send_frames("gateway", &frames)?;
        wait_until("the arrival of every bad packet", PATIENCE, || {
            received().is_ok_and(|now| now - before >= frames.len() as u64)
        })?;
        let transcript = pop3_client(connect(&hosts.client, S0::at_gateway(110))?)?;
        let counters = hosts.server.counters()?;
        Ok(Outcome::default()
            .with("then", transcript)
            .with("connections accepted", server.peers().len())
            .with(
                "connections opened",
                counters.since(&opened, "Tcp.PassiveOpens"),
            ))
    })
}

#[rstest]
fn bad_packets_end_at_the_gateway(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = scenario(engine)?;
        assert_eq!(outcome.get("connections accepted"), Some("1"));
        Ok(outcome)
    })
}

/// A connection that the gateway has forgotten, or never knew. netfilter takes it for a new one and asks the server,
/// who resets it; `reset-unknown` has the gateway itself do so.
fn forgotten(engine: Engine) -> Result<Outcome> {
    let rule = Rule {
        extra: &["reset-unknown = true"],
        ..Rule::masquerade("pop3", LISTENER, "195.228.245.1:110")
    };
    let mut rig = Rig::s0(engine, &[rule])?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:110", pop3)?;
    let outcome = rig.observe(|hosts| {
        let capture = Capture::start(&hosts.internet, "gateway")?;
        let segment = Packet::tcp(CLIENT, LISTENER, tcp_flags::ACK)
            .with_macs(S0::ROUTER_MAC, S0::GATEWAY_MAC)
            .with_payload(b"QUIT\r\n");
        hosts.internet.send_frames("gateway", &[segment.to_bytes()])?;
        let resets = |packet: &Packet| {
            matches!(&packet.transport, Transport::Tcp(tcp) if tcp.flags & tcp_flags::RST != 0)
        };
        let (reset, _) = capture.wait("a RST", resets)?;
        let Transport::Tcp(tcp) = &reset.transport else {
            unreachable!("it resets");
        };
        Ok(Outcome::default()
            .with("from", format!("{}:{}", reset.ip.source(), tcp.source_port))
            .with("to", format!("{}:{}", reset.ip.destination(), tcp.destination_port))
            .with_debug("flags", tcp.flags)
            .with_debug("sequence", tcp.sequence))
    })?;
    assert_eq!(outcome.get("from"), Some(LISTENER));
    if let Some(forwarder) = rig.gateway.forwarder() {
        assert_eq!(forwarder.dropped("tcp-no-flow")?, 1);
    }
    Ok(outcome)
}

#[rstest]
fn a_forgotten_connection_is_reset(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, forgotten)
}
