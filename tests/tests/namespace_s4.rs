//! S4, what arrives: port 986 is redirected to the gateway's own port 25, with the client's address preserved.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use rstest::rstest;
use tests::netns::Namespace;
use tests::responder::{
    Bulk, Direction, Server, UdpEcho, bulk_transfer, connect, exchange, first_line, kind, smtp,
    smtp_client, tell_ends, udp_client, udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, Outcome, Rig, Rule, S4};

const SMTP: Rule = Rule::preserve("smtp", "*:986", "local:25");
const DATAGRAMS: Rule = SMTP.udp().named("datagrams");

/// The address of the gateway's that a server is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Wildcard,
    Address,
}

impl Bound {
    fn at(self, family: Family, port: u16) -> String {
        match self {
            Self::Wildcard => family.any(port),
            Self::Address => S4::gateway(family, port).to_string(),
        }
    }
}

fn redirected(engine: Engine, family: Family, bound: Bound) -> Result<Outcome> {
    let rig = Rig::s4(engine, &[SMTP, DATAGRAMS], &[])?;
    let gateway = &rig.hosts.gateway;
    let server = Server::start(gateway, &bound.at(family, 25), tell_ends)?;
    let echo = UdpEcho::start(gateway, &bound.at(family, 25))?;
    rig.observe(|hosts| {
        let converse = |client: &Namespace, address: SocketAddr| {
            let stream = connect(client, address)?;
            let source = stream.local_addr()?;
            let said = first_line(Ok(stream))?;
            // Not only the address is preserved.
            assert_eq!(server.peers().last(), Some(&source), "at {address}");

            let socket = udp_client(client, address)?;
            let answer = exchange(&socket, b"hello")
                .with_context(|| format!("no datagram from {address}"))?;
            assert_eq!(answer, b"hello");
            assert_eq!(echo.peers().last(), Some(&socket.local_addr()?));
            Ok::<_, anyhow::Error>(said)
        };
        let mut outcome = Outcome::default();
        for port in [986, 25] {
            let said = converse(&hosts.client, S4::gateway(family, port))?;
            outcome = outcome.with(&format!("outside at {port}"), said);
            // A redirected packet gets an address of the device it came by, and the server may not be bound to that.
            if bound == Bound::Wildcard {
                let said = converse(&hosts.inside, S4::router(family, port))?;
                outcome = outcome.with(&format!("inside at {port}"), said);
            }
        }
        Ok(outcome)
    })
}

#[rstest]
fn the_server_sees_the_client(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(Bound::Wildcard, Bound::Address)] bound: Bound,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [[Baseline; 2]; 2] = [
        [Baseline::new(), Baseline::new()],
        [Baseline::new(), Baseline::new()],
    ];
    let baseline = &family.among(&BASELINE)[usize::from(bound == Bound::Address)];
    baseline.compare(engine, |engine| {
        let outcome = redirected(engine, family, bound)?;
        let client = S4::client(family);
        let expected = format!("from {client} to {}", S4::gateway(family, 25));
        assert_eq!(outcome.get("outside at 986"), Some(&*expected));
        assert_eq!(outcome.get("outside at 25"), Some(&*expected));
        Ok(outcome)
    })
}

/// Which of its own addresses the server is told when the client used the gateway's second one: REDIRECT puts the
/// device's first one in its place.
fn second_address(engine: Engine) -> Result<Outcome> {
    let rig = Rig::s4(engine, &[SMTP, DATAGRAMS], &[])?;
    let gateway = &rig.hosts.gateway;
    let _server = Server::start(gateway, &Family::V4.any(25), tell_ends)?;
    let _echo = UdpEcho::start(gateway, &Family::V4.any(25))?;
    rig.observe(|hosts| {
        let second = |port| SocketAddr::new(S4::SECOND.parse().expect("an address"), port);
        let redirected = first_line(connect(&hosts.client, second(986)))?;
        let direct = first_line(connect(&hosts.client, second(25)))?;
        udp_exchange(&hosts.client, second(986), b"hello")?;
        Ok(Outcome::default()
            .with("redirected", redirected)
            .with("direct", direct))
    })
}

#[rstest]
fn the_second_address_is_redirected_too(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = second_address(engine)?;
        for (name, address) in [("direct", S4::SECOND), ("redirected", "203.0.113.5")] {
            let expected = format!("from 198.51.100.7 to {address}:25");
            assert_eq!(outcome.get(name), Some(&*expected), "{name}");
        }
        Ok(outcome)
    })
}

/// Mail both ways at once, and enough bytes for every size of segment.
fn amounts(engine: Engine, family: Family) -> Result<Outcome> {
    let bulk = Rule::preserve("bulk", "*:9000", "local:9001");
    let rig = Rig::s4(engine, &[SMTP, bulk], &[])?;
    let gateway = &rig.hosts.gateway;
    let exchanger = Server::start(gateway, &family.any(25), smtp)?;
    let _bulk = Server::start(gateway, &family.any(9001), Bulk::serve)?;
    rig.observe(|hosts| {
        let stream = connect(&hosts.client, S4::gateway(family, 986))?;
        let sent = smtp_client(stream, "Subject: hello\n\nbody")?;
        for direction in [Direction::Upload, Direction::Download] {
            let stream = connect(&hosts.client, S4::gateway(family, 9000))?;
            let [sent, received] = bulk_transfer(stream, direction, 10_000_000, 11)
                .with_context(|| format!("{direction:?}"))?;
            assert_eq!(sent, received, "{direction:?}");
        }
        Ok(Outcome::default()
            .with("SMTP", sent)
            .with_debug("peers", exchanger.peer_addresses()))
    })
}

#[rstest]
fn mail_and_bulk_pass(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family
        .among(&BASELINE)
        .compare(engine, |engine| amounts(engine, family))
}

/// Nothing listens: the kernel's refusal reaches the client as if it came from the port that was asked.
fn nobody(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s4(engine, &[SMTP, DATAGRAMS], &[])?;
    rig.observe(|hosts| {
        let refused = connect(&hosts.client, S4::gateway(family, 986))
            .map(drop)
            .expect_err("nothing listens");
        let socket = udp_client(&hosts.client, S4::gateway(family, 986))?;
        let unreachable = exchange(&socket, b"hello").expect_err("nothing listens");
        Ok(Outcome::default()
            .with("TCP", kind(&refused))
            .with_debug("UDP", unreachable.kind()))
    })
}

#[rstest]
fn a_port_without_a_server_refuses(
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
