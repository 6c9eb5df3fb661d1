//! What a rule matches and what it does not: ranges, clients, and traffic that is nobody's.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result};
use rstest::rstest;
use tests::responder::{
    Server, Talk, UdpEcho, connect, connect_from, connect_within, echo, first_line, kind,
    tcp_exchange, tell_port, udp_exchange,
};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Engine, Outcome, Rig, Rule, S0};

/// Long enough for one retransmission of a SYN, after which a client that is kept out is certain to be.
const KEPT_OUT: Duration = Duration::from_millis(1500);

fn ranges(engine: Engine) -> Result<Outcome> {
    let rules = [
        Rule::masquerade("moved", "203.0.113.5:2000-2009", "195.228.245.1:3000-3009"),
        Rule::masquerade("same", "203.0.113.5:4000-4003", "195.228.245.1:4000-4003"),
    ];
    let rig = Rig::s0(engine, &rules)?;
    let ports = (3000..=3009).chain(4000..=4003);
    let _servers = ports
        .map(|port| {
            Server::start(
                &rig.hosts.server,
                &format!("195.228.245.1:{port}"),
                tell_port,
            )
        })
        .collect::<Result<Vec<_>>>()?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for port in (1999..=2010).chain(3999..=4004) {
            let stream = connect_within(&hosts.client, S0::at_gateway(port), KEPT_OUT);
            outcome = outcome.with(&format!("at {port}"), first_line(stream)?);
        }
        Ok(outcome)
    })
}

#[rstest]
fn the_nth_port_goes_to_the_nth(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = ranges(engine)?;
        for (port, answer) in [
            (1999, "ConnectionRefused"),
            (2000, "port 3000"),
            (2009, "port 3009"),
            (2010, "ConnectionRefused"),
            (4003, "port 4003"),
            (4004, "ConnectionRefused"),
        ] {
            assert_eq!(
                outcome.get(&format!("at {port}")),
                Some(answer),
                "at {port}"
            );
        }
        Ok(outcome)
    })
}

const ALLOW: Rule = Rule {
    allow: &["198.51.100.0/29"],
    ..Rule::masquerade("allow", "203.0.113.5:110", "195.228.245.1:110")
};

const DENY: Rule = Rule {
    deny: &["198.51.100.8/32"],
    ..Rule::masquerade("deny", "203.0.113.5:110", "195.228.245.1:110")
};

/// The same rule lets one address of the client host in and keeps the other out.
fn admission(engine: Engine, rule: Rule) -> Result<Outcome> {
    let mut rig = Rig::s0(engine, &[rule])?;
    let server = Server::start(&rig.hosts.server, "195.228.245.1:110", tell_port)?;
    let outcome = rig.observe(|hosts| {
        let listener: SocketAddrV4 = format!("{}:110", S0::GATEWAY).parse()?;
        let mut outcome = Outcome::default();
        for client in [S0::CLIENT, S0::OTHER_CLIENT] {
            let address: Ipv4Addr = client.parse()?;
            let stream = connect_from(&hosts.client, address, listener, KEPT_OUT);
            outcome = outcome.with(client, first_line(stream)?);
        }
        Ok(outcome.with("connections", server.peers().len()))
    })?;
    assert_eq!(outcome.get(S0::CLIENT), Some("port 110"));
    assert_eq!(outcome.get("connections"), Some("1"));
    if let Some(forwarder) = rig.gateway.forwarder() {
        // The SYN and its repetition.
        let refused = forwarder.dropped("client-refused")?;
        assert!(refused >= 2, "{refused} packets were counted as refused");
    }
    Ok(outcome)
}

#[rstest]
fn clients_outside_allow_are_kept_out(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| admission(engine, ALLOW))
}

#[rstest]
fn clients_in_deny_are_kept_out(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| admission(engine, DENY))
}

/// What no rule names belongs to the gateway itself.
fn own_traffic(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s0(
        engine,
        &[Rule::masquerade(
            "pop3",
            "203.0.113.5:110",
            "195.228.245.1:110",
        )],
    )?;
    let _ssh = Server::start(&rig.hosts.gateway, "203.0.113.5:22", tell_port)?;
    let resolver = UdpEcho::start(&rig.hosts.gateway, "203.0.113.5:53")?;
    let outside = Server::start(&rig.hosts.server, "195.228.245.1:80", echo)?;
    rig.observe(|hosts| {
        let reached = Talk::client(connect(&hosts.client, S0::at_gateway(22))?).hear()?;
        let refused = connect(&hosts.client, S0::at_gateway(23)).map(drop);
        let mut outgoing =
            connect(&hosts.gateway, S0::at_server(80)).context("from the gateway itself")?;
        tcp_exchange(&mut outgoing, b"from the gateway itself")?;
        let datagram = udp_exchange(&hosts.client, S0::at_gateway(53), b"to the gateway itself")?;
        Ok(Outcome::default()
            .with("a listener of the gateway", reached)
            .with(
                "no listener",
                refused.err().map_or_else(String::new, |error| kind(&error)),
            )
            .with_debug("outgoing", outside.peer_addresses())
            .with("datagram", String::from_utf8_lossy(&datagram))
            .with_debug("datagram from", resolver.peer_addresses()))
    })
}

#[rstest]
fn the_gateways_own_traffic_is_left_alone(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, own_traffic)
}

/// The address a rule is compared by is the listener's, not any.
#[rstest]
fn another_address_of_the_gateway_is_not_the_listener(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC, AUTO)] engine: Engine,
) -> Result<()> {
    let rig = Rig::s0(
        engine,
        &[Rule::masquerade(
            "pop3",
            "203.0.113.5:110",
            "195.228.245.1:110",
        )],
    )?;
    rig.hosts.gateway.ip("addr add 203.0.113.6/24 dev eth0")?;
    let _server = Server::start(&rig.hosts.server, "195.228.245.1:110", tell_port)?;
    rig.observe(|hosts| {
        let error = connect(&hosts.client, SocketAddr::from(([203, 0, 113, 6], 110)))
            .expect_err("no listener there");
        assert_eq!(kind(&error), "ConnectionRefused");
        connect(&hosts.client, S0::at_gateway(110)).map(drop)
    })
}
