//! `forwarder explain`: it says what then happens to a real packet, and nothing comes of asking.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rstest::rstest;
use serde_json::Value;
use tests::process::wait_until;
use tests::responder::{Server, UdpEcho, connect, connect_from, echo, tcp_exchange, udp_exchange};
use tests::scenario::engines::{TC, XDP};
use tests::scenario::{Engine, Family, Forwarder, Output, Protocol, Rig, Rule, S0, S4};

const PATIENCE: Duration = Duration::from_secs(10);
const ECHO: Rule = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7");
const ECHO6: Rule = Rule::masquerade("echo6", "[2001:db8:113::5]:7", "[2001:db8:195::1]:7");

fn forwarder<T>(rig: &mut Rig<T>) -> Result<&mut Forwarder> {
    rig.gateway.forwarder().context("no forwarder")
}

/// What `explain` says of a packet on eth0, once it has been found that nothing came of asking.
fn explain(forwarder: &Forwarder, packet: &str) -> Result<Value> {
    explain_on(forwarder, S0::DEVICE, packet)
}

fn explain_on(forwarder: &Forwarder, device: &str, packet: &str) -> Result<Value> {
    let before = traces(forwarder)?;
    let said = forwarder.query(&format!("explain --interface {device} {packet}"))?;
    assert_eq!(traces(forwarder)?, before, "{said:#}");
    Ok(said)
}

/// Whatever a packet could leave behind: flows with their counters, rules, drops.
fn traces(forwarder: &Forwarder) -> Result<[Value; 3]> {
    let mut flows = forwarder.query("flows --sort age")?;
    // Only these go on by themselves.
    for flow in flows.as_array_mut().context("no list")? {
        for clock in ["age_seconds", "idle_seconds", "expires_seconds"] {
            flow[clock] = Value::Null;
        }
    }
    let mut drops = forwarder.query("drops --all")?;
    for reason in drops.as_array_mut().context("no list")? {
        reason["rate"] = Value::Null;
        // The host's own chatter, which nobody has asked about.
        if reason["verdict"] != "drop" {
            reason["packets"] = Value::Null;
        }
        reason["last"]["seconds_ago"] = Value::Null;
    }
    Ok([flows, forwarder.query("rules")?, drops])
}

/// What one stage decided.
fn stage(said: &Value, name: &str) -> Option<String> {
    let stages = said["stages"].as_array()?;
    let stage = stages.iter().find(|one| one["stage"] == name)?;
    stage["decision"].as_str().map(str::to_owned)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A new flow, and then the very packet: same rule, backend and source.
#[rstest]
fn a_packet_goes_as_it_was_said(
    #[values(XDP, TC)] engine: Engine,
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let mut rig = Rig::s0(engine, &[ECHO.udp(), ECHO6.udp()])?;
    let _echo = UdpEcho::start(&rig.hosts.server, &S0::server(family, 7).to_string())?;
    // So that the next hop is known.
    udp_exchange(&rig.hosts.client, S0::gateway(family, 7), b"first")?;
    // A port that the host does not give its own connections, so it stays.
    let socket = rig.hosts.client.run(|| {
        let socket = UdpSocket::bind((S0::client(family), 20_000))?;
        socket.connect(S0::gateway(family, 7))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        std::io::Result::Ok(socket)
    })??;
    let client = socket.local_addr()?;
    let packet = format!("--protocol udp {client} {}", S0::gateway(family, 7));

    let said = explain(forwarder(&mut rig)?, &packet)?;
    assert_eq!(said["outcome"], "sent", "{said:#}");
    assert_eq!(said["rule"], family.pick("echo", "echo6"));
    assert_eq!(stage(&said, "flow").as_deref(), Some("none is known"));
    let leaves = &said["leaves"];
    assert_eq!(leaves["interface"], "eth0");
    assert_eq!(
        leaves["packet"]["destination"],
        S0::server(family, 7).to_string()
    );
    assert_eq!(leaves["packet"]["ttl"], 63);
    let router = S0::ROUTER_MAC.map(|octet| format!("{octet:02x}")).join(":");
    assert_eq!(leaves["to_mac"], router);

    socket.send(b"second")?;
    socket.recv(&mut [0; 64])?;
    let flows = forwarder(&mut rig)?.query("flows")?;
    let flow = flows.as_array().context("no list")?.iter();
    let flow = flow
        .clone()
        .find(|flow| flow["original"]["source"] == client.to_string());
    let flow = flow.context("no flow")?;
    // The reply comes back to whom the packet left as.
    assert_eq!(
        flow["reply"]["destination"], leaves["packet"]["source"],
        "{flow:#}\n{said:#}"
    );

    // Now it is known, in both directions.
    let said = explain(forwarder(&mut rig)?, &packet)?;
    let known = stage(&said, "flow").context("no flow")?;
    assert!(
        known.contains("known, of rule echo") && known.contains("original"),
        "{known}"
    );
    let [from, to] = ["source", "destination"].map(|end| text(&flow["reply"][end]).to_owned());
    let reply = explain(forwarder(&mut rig)?, &format!("--protocol udp {from} {to}"))?;
    assert_eq!(reply["outcome"], "sent");
    assert_eq!(
        reply["leaves"]["packet"]["source"],
        S0::gateway(family, 7).to_string()
    );
    assert_eq!(reply["leaves"]["packet"]["destination"], client.to_string());
    let known = stage(&reply, "flow").context("no flow")?;
    assert!(known.contains("reply direction"), "{known}");
    Ok(())
}

/// The port that a flow in force has is not given twice, neither in the answer nor in truth.
#[rstest]
fn a_port_that_is_taken_is_not_promised(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let mut rig = Rig::s0(engine, &[ECHO])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let mut first = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut first, b"taken")?;
    let flows = forwarder(&mut rig)?.query("flows")?;
    let taken: SocketAddr = text(&flows[0]["reply"]["destination"]).parse()?;
    // Another client with that very port.
    let packet = format!(
        "{}:{} {}",
        S0::OTHER_CLIENT,
        taken.port(),
        S0::at_gateway(7)
    );
    let said = explain(forwarder(&mut rig)?, &packet)?;
    let source: SocketAddr = text(&said["leaves"]["packet"]["source"]).parse()?;
    assert_eq!(source.ip(), taken.ip());
    assert_ne!(source.port(), taken.port(), "{said:#}");
    let how = stage(&said, "source").context("no source")?;
    assert!(how.contains("with another port"), "{how}");
    tcp_exchange(&mut first, b"still there")?;
    Ok(())
}

/// A connection's state is the one that is listed, and no flag changes it.
#[rstest]
fn a_connection_stays_as_it_is(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let mut rig = Rig::s0(engine, &[ECHO])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    let mut stream = connect(&rig.hosts.client, S0::at_gateway(7))?;
    tcp_exchange(&mut stream, b"hello")?;
    let client = stream.local_addr()?;
    let forwarder = forwarder(&mut rig)?;
    wait_until("the handshake", PATIENCE, || {
        let flows = forwarder.query("flows --state established");
        flows.is_ok_and(|flows| flows.as_array().is_some_and(|flows| flows.len() == 1))
    })?;
    for flags in ["ack", "fin,ack", "rst", "syn"] {
        let packet = format!("{client} 203.0.113.5:7 --flags {flags}");
        let said = explain(forwarder, &packet)?;
        let known = stage(&said, "flow").context("no flow")?;
        assert!(known.contains("ESTABLISHED"), "{known}");
        assert_eq!(said["outcome"], "sent", "{said:#}");
    }
    tcp_exchange(&mut stream, b"and again")?;
    Ok(())
}

/// Each way in which a packet is not sent on, with its reason; then the real packet is counted under it.
#[rstest]
fn why_a_packet_is_not_sent(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let closed = Rule {
        allow: &["192.0.2.0/24"],
        ..Rule::masquerade("closed", "203.0.113.5:9", "195.228.245.1:9")
    };
    let mut rig = Rig::s0(engine, &[ECHO, closed])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    tcp_exchange(
        &mut connect(&rig.hosts.client, S0::at_gateway(7))?,
        b"first",
    )?;
    let gateway = forwarder(&mut rig)?;
    for (packet, outcome, reason, rule) in [
        (
            "198.51.100.7:4000 203.0.113.5:9",
            "dropped",
            "client-refused",
            Some("closed"),
        ),
        ("192.0.2.1:4000 203.0.113.5:9", "sent", "", Some("closed")),
        ("198.51.100.7:4000 203.0.113.5:8", "kernel", "no-rule", None),
        (
            "198.51.100.7:4000 203.0.113.5:7 --flags ack",
            "dropped",
            "tcp-no-flow",
            Some("echo"),
        ),
        (
            "198.51.100.7:4000 203.0.113.5:7 --ttl 1",
            "answered",
            "ttl-expired",
            Some("echo"),
        ),
        (
            "198.51.100.7:4000 203.0.113.5:7 --payload 2000",
            "answered",
            "too-big",
            Some("echo"),
        ),
        (
            "--protocol icmp 198.51.100.7 203.0.113.5",
            "kernel",
            "no-rule",
            None,
        ),
        (
            "198.51.100.7:4000 224.0.0.1:7",
            "kernel",
            "not-unicast",
            None,
        ),
    ] {
        let said = explain(gateway, packet)?;
        assert_eq!(said["outcome"], outcome, "{packet}: {said:#}");
        assert_eq!(text(&said["reason"]), reason, "{packet}: {said:#}");
        assert_eq!(said["rule"].as_str(), rule, "{packet}: {said:#}");
    }
    let before = gateway.dropped("client-refused")?;
    let from = S0::client(Family::V4);
    connect_from(
        &rig.hosts.client,
        from,
        S0::at_gateway(9),
        Duration::from_millis(200),
    )
    .expect_err("not allowed");
    assert!(forwarder(&mut rig)?.dropped("client-refused")? > before);

    rig.hosts
        .gateway
        .ip("route add unreachable 195.228.245.1\n")?;
    let gateway = forwarder(&mut rig)?;
    let said = explain(gateway, "198.51.100.7:4000 203.0.113.5:7")?;
    assert_eq!(said["reason"], "unroutable", "{said:#}");
    assert_eq!(said["outcome"], "dropped");
    Ok(())
}

/// What XDP cannot finish goes on to TC, which is said.
#[test]
fn an_unknown_neighbour_is_for_the_slow_path() -> Result<()> {
    let rule = Rule::preserve("lan", "203.0.113.5:7", "10.1.0.77:7");
    let mut rig = Rig::s3(XDP, &[rule])?;
    let said = explain_on(
        forwarder(&mut rig)?,
        "wan1",
        "198.51.100.7:4000 203.0.113.5:7",
    )?;
    let slow = stage(&said, "slow path").with_context(|| format!("{said:#}"))?;
    assert!(slow.contains("no-neighbour"), "{slow}");
    assert_eq!(said["outcome"], "sent");
    assert_eq!(said["leaves"]["interface"], "lan0");
    assert_eq!(said["leaves"]["to_mac"], Value::Null);
    assert_eq!(said["leaves"]["by"], "bpf_redirect_neigh");
    Ok(())
}

/// To this host, and from it.
#[rstest]
fn to_and_from_this_host(#[values(XDP, TC)] engine: Engine) -> Result<()> {
    let rule = Rule::preserve("in", "203.0.113.5:986", "local:25");
    let output = Output {
        name: "out",
        protocol: Protocol::Tcp,
        to_address: "192.0.2.7:25",
        to: "192.0.2.7:986",
    };
    let mut rig = Rig::s4(engine, &[rule], &[output])?;
    let client = S4::gateway(Family::V4, 986);
    let gateway = forwarder(&mut rig)?;
    let said = explain(gateway, &format!("198.51.100.7:4000 {client}"))?;
    assert_eq!(said["outcome"], "delivered", "{said:#}");
    assert_eq!(said["leaves"]["packet"]["destination"], "203.0.113.5:25");
    assert_eq!(said["leaves"]["packet"]["ttl"], 64);
    let said = explain(gateway, "203.0.113.5:4000 192.0.2.7:25 --output")?;
    assert_eq!(said["outcome"], "sent", "{said:#}");
    assert_eq!(said["rule"], "out");
    assert_eq!(said["leaves"]["packet"]["destination"], "192.0.2.7:986");
    Ok(())
}

/// For people: a stage a line.
#[test]
fn for_people() -> Result<()> {
    let mut rig = Rig::s0(XDP, &[ECHO])?;
    let _echo = Server::start(&rig.hosts.server, "195.228.245.1:7", echo)?;
    tcp_exchange(
        &mut connect(&rig.hosts.client, S0::at_gateway(7))?,
        b"first",
    )?;
    let gateway = forwarder(&mut rig)?;
    let text = gateway.listing("explain --interface eth0 198.51.100.7:4000 203.0.113.5:7")?;
    let words: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expected = [
        "packet", "hook", "flow", "rule", "backend", "route", "source", "sent",
    ];
    assert_eq!(words, expected, "{text}");
    let refused = gateway.query("explain --interface eth7 198.51.100.7:4000 203.0.113.5:7");
    let refused = format!("{:#}", refused.expect_err("no such interface"));
    assert!(
        refused.contains("expected one of the configured interfaces, eth0"),
        "{refused}"
    );
    Ok(())
}
