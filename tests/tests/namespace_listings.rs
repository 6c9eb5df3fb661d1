//! What can be asked of a daemon at work.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rstest::rstest;
use serde_json::Value;
use tests::netns::{Prefix, Wire};
use tests::process::wait_until;
use tests::responder::{Server, connect, connect_within, echo, tcp_exchange};
use tests::scenario::engines::{TC, XDP};
use tests::scenario::{Engine, Forwarder, GatewayConfig, Mode, Rig, Rule, S0, binary, socket_in};

const PATIENCE: Duration = Duration::from_secs(10);
const TCP: Rule = Rule::masquerade("over-tcp", "*:7", "195.228.245.1:7");
const OTHER: Rule = Rule::masquerade("other", "*:8", "195.228.245.1:8");

/// The flows that a question finds, by their listeners' ports.
fn found(forwarder: &Forwarder, question: &str) -> Result<Vec<u16>> {
    let answer = forwarder.query(format!("flows {question}").trim_end())?;
    let flows = answer.as_array().context("no list")?.iter();
    let port = |flow: &Value| {
        let listener = flow["original"]["destination"].as_str()?;
        listener.rsplit_once(':')?.1.parse().ok()
    };
    flows.map(|flow| port(flow).context("no port")).collect()
}

#[rstest]
fn flows_are_picked_and_sorted(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let mut rig = Rig::s0(engine, &[TCP, OTHER])?;
    let (seven, eight) = ("195.228.245.1:7", "195.228.245.1:8");
    let _servers = [seven, eight].map(|address| Server::start(&rig.hosts.server, address, echo));
    let mut older = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut older, b"a few bytes")?;
    let mut newer = connect(&rig.hosts.client, S0::at_gateway(8))?;
    tcp_exchange(&mut newer, &[b'x'; 1000])?;
    let forwarder = rig.gateway.forwarder().context("no forwarder")?;
    let found = |question: &str| {
        let mut ports = found(forwarder, question)?;
        if !question.contains("--sort") {
            ports.sort_unstable();
        }
        Ok::<_, anyhow::Error>(ports)
    };
    // The client's last ACK may still be on its way.
    wait_until("both handshakes", PATIENCE, || {
        found("--state established").is_ok_and(|ports| ports == [7, 8])
    })?;
    for (question, expected) in [
        ("", &[7, 8][..]),
        ("--rule other", &[8]),
        ("--protocol tcp", &[7, 8]),
        ("--protocol udp", &[]),
        ("--state SYN_SENT", &[]),
        ("--port 8", &[8]),
        ("--port 9", &[]),
        ("--address 198.51.100.0/24", &[7, 8]),
        ("--address 195.228.245.1 --port 7", &[7]),
        ("--address 192.0.2.0/24", &[]),
        ("--sort bytes", &[8, 7]),
        ("--sort bytes --limit 1", &[8]),
        ("--sort bytes --rule over-tcp --limit 1", &[7]),
    ] {
        assert_eq!(found(question)?, expected, "flows {question}");
    }
    assert_eq!(found("--limit 1")?.len(), 1);
    assert_eq!(found("--sort packets")?.len(), 2);
    assert_eq!(found("--sort age --limit 3")?.len(), 2);
    let text = forwarder.listing("flows --rule other")?;
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.starts_with("tcp  ESTABLISHED  rule other  original "),
        "{text}"
    );
    assert_eq!(
        forwarder.listing("flows --port 9")?,
        "no flow is like that\n"
    );
    let refused = forwarder
        .query("flows --rule pop4")
        .expect_err("no such rule");
    let sentence = "error: no rule is called `pop4`: `forwarder rules` lists them";
    assert!(format!("{refused:#}").contains(sentence), "{refused:#}");
    Ok(())
}

/// Refuses everybody.
const CLOSED: &str = "\
[[forward]]
name = \"closed\"
listen = \"*:9\"
to = \"195.228.245.1:9\"
deny = [\"0.0.0.0/0\"]
";

#[rstest]
fn a_drop_names_its_last_packet(#[values(Mode::Xdp, Mode::Tc)] mode: Mode) -> Result<()> {
    let prefix = Prefix::unique();
    let hosts = S0::build(&prefix, Wire::CABLE)?;
    let directory = prefix.directory();
    let config = GatewayConfig {
        interfaces: vec![S0::DEVICE],
        rules: vec![TCP],
        ..GatewayConfig::default()
    };
    let text = config.to_toml(mode, &socket_in(&directory)) + CLOSED;
    let forwarder = Forwarder::start_with(&hosts.gateway, binary()?, directory, &text)?;
    let before = forwarder.query("drops --all")?;
    let is_refused = |one: &&Value| one["reason"] == "client-refused";
    let refused = before
        .as_array()
        .context("no list")?
        .iter()
        .find(is_refused);
    assert_eq!(refused.context("not listed")?["last"], Value::Null);

    connect_within(&hosts.client, S0::at_gateway(9), Duration::from_millis(200))
        .expect_err("everybody is refused");
    let drops = forwarder.query("drops")?;
    let refused = drops.as_array().context("no list")?.iter().find(is_refused);
    let refused = refused.context("not counted")?;
    let last = &refused["last"];
    assert_eq!(last["protocol"], "tcp");
    assert_eq!(last["destination"], "203.0.113.5:9");
    assert_eq!(last["interface"], "eth0");
    let source = last["source"].as_str().context("no source")?;
    let client = hosts.client.ip("addr show dev eth0")?;
    let address = source.rsplit_once(':').context("no port")?.0;
    assert!(
        client.contains(&format!("inet {address}/")),
        "{source}: {client}"
    );
    assert!(refused["rate"].as_f64() > Some(0.0), "{refused}");
    assert!(
        refused["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("`allow`"))
    );
    let listing = forwarder.listing("drops")?;
    let line = listing
        .lines()
        .find(|line| line.contains(" client-refused "));
    let line = line.context("no line")?;
    assert!(
        line.contains(&format!("tcp {source} -> 203.0.113.5:9 on eth0, ")),
        "{line}"
    );
    Ok(())
}
