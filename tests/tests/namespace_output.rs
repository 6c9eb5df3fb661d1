//! S4, what leaves: connections that the gateway itself makes to port 25 of the relay go to port 986 there.

use anyhow::{Result, ensure};
use rstest::rstest;
use tests::responder::{
    Bulk, Direction, Server, UdpEcho, bulk_transfer, connect, echo, exchange, first_line, kind,
    smtp, smtp_client, tcp_exchange, tell_port, udp_client, udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, Outcome, Output, Protocol, Rig, S4};

fn outputs(family: Family) -> [Output; 3] {
    let output = |name, protocol, v4: [&'static str; 2], v6: [&'static str; 2]| {
        let [to_address, to] = family.pick(v4, v6);
        Output {
            name,
            protocol,
            to_address,
            to,
        }
    };
    let ports = (
        ["192.0.2.7:25", "192.0.2.7:986"],
        ["[2001:db8:2::7]:25", "[2001:db8:2::7]:986"],
    );
    [
        output("smtp", Protocol::Tcp, ports.0, ports.1),
        output("datagrams", Protocol::Udp, ports.0, ports.1),
        output(
            "bulk",
            Protocol::Tcp,
            ["192.0.2.7:9000", "192.0.2.7:9001"],
            ["[2001:db8:2::7]:9000", "[2001:db8:2::7]:9001"],
        ),
    ]
}

fn own_connections(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s4(engine, &[], &outputs(family))?;
    let relay = &rig.hosts.relay;
    let at = |port| S4::relay(family, port).to_string();
    let exchanger = Server::start(relay, &at(986), smtp)?;
    let datagrams = UdpEcho::start(relay, &at(986))?;
    let _bulk = Server::start(relay, &at(9001), Bulk::serve)?;
    let other = Server::start(relay, &at(80), echo)?;
    rig.observe(|hosts| {
        let stream = connect(&hosts.gateway, S4::relay(family, 25))?;
        let (own, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let sent = smtp_client(stream, "Subject: hello\n\nbody")?;
        ensure!(
            exchanger.peers() == [own],
            "{own} is {:?}",
            exchanger.peers()
        );
        for length in [0, 1, 511, 1452] {
            let data = vec![7; length];
            let answer = udp_exchange(&hosts.gateway, S4::relay(family, 25), &data)?;
            ensure!(answer == data, "{length} bytes did not come back as sent");
        }
        for direction in [Direction::Upload, Direction::Download] {
            let stream = connect(&hosts.gateway, S4::relay(family, 9000))?;
            let [sent, received] = bulk_transfer(stream, direction, 10_000_000, 13)?;
            ensure!(sent == received, "{direction:?}: other bytes arrived");
        }
        // What no rule names.
        tcp_exchange(
            &mut connect(&hosts.gateway, S4::relay(family, 80))?,
            b"hello",
        )?;
        Ok(Outcome::default()
            .with("SMTP", sent)
            .with("the program talks to", peer)
            .with_debug("SMTP peers", exchanger.peer_addresses())
            .with_debug("UDP peers", datagrams.peer_addresses())
            .with_debug("peers of another port", other.peer_addresses()))
    })
}

#[rstest]
fn the_gateways_own_mail_leaves_by_another_port(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = own_connections(engine, family)?;
        let gateway = format!("[{}]", S4::gateway(family, 0).ip());
        assert_eq!(outcome.get("SMTP peers"), Some(&*gateway));
        assert_eq!(outcome.get("UDP peers"), Some(&*gateway));
        Ok(outcome)
    })
}

/// Nothing listens at the other port: the program hears of it as if the one it asked had refused.
fn nobody(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s4(engine, &[], &outputs(family))?;
    rig.observe(|hosts| {
        let refused = connect(&hosts.gateway, S4::relay(family, 25))
            .map(drop)
            .expect_err("nothing listens");
        let socket = udp_client(&hosts.gateway, S4::relay(family, 25))?;
        let unreachable = exchange(&socket, b"hello").expect_err("nothing listens");
        Ok(Outcome::default()
            .with("TCP", kind(&refused))
            .with_debug("UDP", unreachable.kind()))
    })
}

#[rstest]
fn a_refusal_comes_back(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = nobody(engine, family)?;
        assert_eq!(outcome.get("TCP"), Some("ConnectionRefused"));
        assert_eq!(outcome.get("UDP"), Some("ConnectionRefused"));
        Ok(outcome)
    })
}

/// Hosts that are not the gateway get the port they asked for, by way of the gateway or not.
fn others(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s4(engine, &[], &outputs(family))?;
    rig.hosts.gateway.forward(true)?;
    let relay = &rig.hosts.relay;
    let at = |port| S4::relay(family, port).to_string();
    let server = Server::start(relay, &at(25), tell_port)?;
    let _diverted = Server::start(relay, &at(986), tell_port)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (name, host) in [
            ("forwarded", &hosts.inside),
            ("outside", &hosts.client),
            ("own", &hosts.gateway),
        ] {
            outcome = outcome.with(name, first_line(connect(host, S4::relay(family, 25)))?);
        }
        Ok(outcome.with_debug("peers at 25", server.peer_addresses()))
    })
}

#[rstest]
fn connections_of_others_are_not_touched(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = others(engine, family)?;
        for (name, port) in [("forwarded", 25), ("outside", 25), ("own", 986)] {
            let expected = format!("port {port}");
            assert_eq!(outcome.get(name), Some(&*expected), "{name}");
        }
        Ok(outcome)
    })
}
