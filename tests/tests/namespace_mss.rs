//! `mss-clamp`: segments are of a size that the way takes, so that nobody has to find out.

use std::time::Duration;

use anyhow::{Context, Result};
use rstest::rstest;
use tests::packet::{Packet, Transport, tcp_flags};
use tests::probe::Capture;
use tests::process;
use tests::responder::{Server, connect, echo, tcp_exchange};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baselines, Chain, Engine, Family, Outcome, Rig, Rule};

/// The listener and the backend have this port.
const PORT: u16 = 7;

/// Between client and gateway, and between gateway and router.
const LINKS: [u32; 2] = [1500, 1400];

fn rule(family: Family) -> Rule {
    let v4 = Rule::preserve("echo", "203.0.113.5:7", "10.2.0.2:7");
    let v6 = Rule::preserve("echo", "[2001:db8:113::5]:7", "[2001:db8:b::2]:7");
    family.pick(v4, v6)
}

/// The maximum segment size a SYN announces.
fn mss(packet: &Packet) -> Option<u16> {
    let Transport::Tcp(tcp) = &packet.transport else {
        return None;
    };
    // Linux puts it first.
    match tcp.options[..] {
        [2, 4, high, low, ..] if tcp.flags & tcp_flags::SYN != 0 => {
            Some(u16::from_be_bytes([high, low]))
        }
        _ => None,
    }
}

/// What both sides are told; `target` are the arguments of iptables' TCPMSS.
fn clamp(
    engine: Engine,
    family: Family,
    line: &'static [&'static str],
    target: &[&str],
) -> Result<Outcome> {
    let rule = Rule {
        extra: line,
        ..rule(family)
    };
    let rig = Rig::chain_on(LINKS, engine, &[rule])?;
    if engine == IPTABLES {
        let mut command = rig
            .hosts
            .gateway
            .command(family.pick("iptables", "ip6tables"));
        command.args("-w -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS".split(' '));
        process::output(command.args(target), Duration::from_secs(20))?;
    }
    let own = Chain::server(family, PORT).to_string();
    let _server = Server::start(&rig.hosts.server, &own, echo)?;
    rig.observe(|hosts| {
        let captures = [
            Capture::start(&hosts.server, "eth0")?,
            Capture::start(&hosts.client, "eth0")?,
        ];
        let mut stream = connect(&hosts.client, Chain::gateway(family, PORT))?;
        tcp_exchange(&mut stream, b"checksums are right")?;
        let [server, client] = captures.each_ref().map(|capture| {
            let (syn, _) = capture.wait("a SYN", |packet| mss(packet).is_some())?;
            mss(&syn).context("it was chosen for its MSS")
        });
        Ok(Outcome::default()
            .with("the server sees", server?)
            .with("the client sees", client?))
    })
}

#[rstest]
fn segments_are_clamped_to_the_way(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        let line = &["mss-clamp = \"auto\""];
        let outcome = clamp(engine, family, line, &["--clamp-mss-to-pmtu"])?;
        assert_eq!(
            outcome.get("the server sees"),
            Some(family.pick("1360", "1340"))
        );
        Ok(outcome)
    })
}

#[rstest]
fn segments_are_clamped_to_a_number(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        let line = &["mss-clamp = 1200"];
        let outcome = clamp(engine, family, line, &["--set-mss", "1200"])?;
        assert_eq!(outcome.get("the server sees"), Some("1200"));
        Ok(outcome)
    })
}

/// A clamp lowers and never raises.
#[rstest]
fn a_clamp_does_not_raise(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        let line = &["mss-clamp = 9000"];
        clamp(engine, family, line, &["--set-mss", "9000"])
    })
}
