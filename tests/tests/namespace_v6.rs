//! The conversations of S0 and S3 in IPv6.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::netns::{Namespace, Wire};
use tests::responder::{
    Bulk, Direction, Server, UdpEcho, bulk_transfer, connect, connect_from, connect_within,
    first_line, pop3, pop3_client, smtp, smtp_client, tell_port, udp_exchange,
};
use tests::scenario::engines::{AUTO, IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, Outcome, Rig, Rule, S0, S3};

/// Long enough for one retransmission of a SYN, after which a client that is kept out is certain to be.
const KEPT_OUT: Duration = Duration::from_millis(1500);

const MEGABYTE: u64 = 1_000_000;

fn gateway(port: u16) -> SocketAddr {
    S0::gateway(Family::V6, port)
}

fn at_server(port: u16) -> String {
    S0::server(Family::V6, port).to_string()
}

fn mail(engine: Engine) -> Result<Outcome> {
    let rules = [
        Rule::masquerade("pop3", "[2001:db8:113::5]:110", "[2001:db8:195::1]:110"),
        Rule::masquerade("smtp", "[2001:db8:113::5]:25", "[2001:db8:195::1]:2525"),
        Rule::masquerade("echo", "[2001:db8:113::5]:7", "[2001:db8:195::1]:7").udp(),
    ];
    let rig = Rig::s0(engine, &rules)?;
    let server = &rig.hosts.server;
    let mailbox = Server::start(server, &at_server(110), pop3)?;
    let exchanger = Server::start(server, &at_server(2525), smtp)?;
    let echo = UdpEcho::start(server, &at_server(7))?;
    rig.observe(|hosts| {
        let fetched = pop3_client(connect(&hosts.client, gateway(110))?)?;
        let stream = connect(&hosts.client, gateway(25))?;
        let sent = smtp_client(stream, "Subject: hello\n\nbody")?;
        // Empty, odd, and as large as a frame takes.
        for length in [0, 1, 511, 1452] {
            let data: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let came = udp_exchange(&hosts.client, gateway(7), &data)?;
            ensure!(came == data, "{length} bytes did not come back as sent");
        }
        Ok(Outcome::default()
            .with("POP3", fetched)
            .with("SMTP", sent)
            .with_debug("POP3 peers", mailbox.peer_addresses())
            .with_debug("SMTP peers", exchanger.peer_addresses())
            .with_debug("UDP peers", echo.peer_addresses()))
    })
}

#[rstest]
fn mail_and_datagrams_pass(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = mail(engine)?;
        assert_eq!(outcome.get("POP3 peers"), Some("[2001:db8:113::5]"));
        Ok(outcome)
    })
}

fn ranges(engine: Engine) -> Result<Outcome> {
    let rules = [
        Rule::masquerade(
            "moved",
            "[2001:db8:113::5]:2000-2009",
            "[2001:db8:195::1]:3000-3009",
        ),
        Rule::masquerade(
            "same",
            "[2001:db8:113::5]:4000-4003",
            "[2001:db8:195::1]:4000-4003",
        ),
    ];
    let rig = Rig::s0(engine, &rules)?;
    let _servers = (3000..=3009)
        .chain(4000..=4003)
        .map(|port| Server::start(&rig.hosts.server, &at_server(port), tell_port))
        .collect::<Result<Vec<_>>>()?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for port in (1999..=2010).chain(3999..=4004) {
            let stream = connect_within(&hosts.client, gateway(port), KEPT_OUT);
            outcome = outcome.with(&format!("at {port}"), first_line(stream)?);
        }
        Ok(outcome)
    })
}

#[rstest]
fn the_nth_port_goes_to_the_nth(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| {
        let outcome = ranges(engine)?;
        for (port, answer) in [
            (1999, "ConnectionRefused"),
            (2009, "port 3009"),
            (4003, "port 4003"),
        ] {
            assert_eq!(outcome.get(&format!("at {port}")), Some(answer));
        }
        Ok(outcome)
    })
}

const PLAIN: Rule = Rule::masquerade("pop3", "[2001:db8:113::5]:110", "[2001:db8:195::1]:110");

const ALLOW: Rule = Rule {
    // Host bits beyond a byte's boundary.
    allow: &["2001:db8:51::/125"],
    ..PLAIN
};

const DENY: Rule = Rule {
    deny: &["2001:db8:51::8/128"],
    ..PLAIN
};

fn admission(engine: Engine, rule: Rule) -> Result<Outcome> {
    let mut rig = Rig::s0(engine, &[rule])?;
    let server = Server::start(&rig.hosts.server, &at_server(110), tell_port)?;
    let outcome = rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for client in [S0::client(Family::V6), S0::other_client(Family::V6)] {
            let stream = connect_from(&hosts.client, client, gateway(110), KEPT_OUT);
            outcome = outcome.with(&client.to_string(), first_line(stream)?);
        }
        Ok(outcome.with("connections", server.peers().len()))
    })?;
    assert_eq!(outcome.get(S0::CLIENT6), Some("port 110"));
    assert_eq!(outcome.get("connections"), Some("1"));
    if let Some(forwarder) = rig.gateway.forwarder() {
        // The SYN and its repetition.
        let refused = forwarder.dropped("client-refused")?;
        assert!(refused >= 2, "{refused} packets were counted as refused");
    }
    Ok(outcome)
}

#[rstest]
fn clients_outside_allow_are_kept_out(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| admission(engine, ALLOW))
}

#[rstest]
fn clients_in_deny_are_kept_out(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| admission(engine, DENY))
}

fn bulk(wire: Wire, engine: Engine) -> Result<Outcome> {
    let rule = Rule::masquerade("bulk", "[2001:db8:113::5]:9000", "[2001:db8:195::1]:9000");
    let rig = Rig::s0_on(wire, engine, &[rule])?;
    let _server = Server::start(&rig.hosts.server, &at_server(9000), Bulk::serve)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (direction, seed) in [(Direction::Upload, 1), (Direction::Download, 2)] {
            let stream = connect(&hosts.client, gateway(9000))?;
            let [sent, received] = bulk_transfer(stream, direction, 40 * MEGABYTE, seed)
                .with_context(|| format!("{direction:?}"))?;
            ensure!(
                sent == received,
                "{direction:?}: sent {sent:#x}, received {received:#x}"
            );
            outcome = outcome.with(&format!("{direction:?}"), format!("{received:#x}"));
        }
        Ok(outcome)
    })
}

#[rstest]
fn bulk_is_intact(#[values(IPTABLES, XDP, TC)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| bulk(Wire::CABLE, engine))
}

/// Segments of 64 KB with partial checksums, as containers send them. XDP cannot take these, TC must.
#[rstest]
fn bulk_in_super_packets_is_intact(#[values(IPTABLES, TC, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, |engine| bulk(Wire::VIRTUAL, engine))
}

/// What an uplink that is not in use may carry: address resolution. The transfer is a thousand packets.
const NOISE: u64 = 50;

/// Mail by each public address; the replies take the way of the requests, and the mail host sees the clients.
fn uplinks(engine: Engine) -> Result<Outcome> {
    let rules = [
        Rule::preserve("pop3-1", "[2001:db8:113::5]:110", "[2001:db8:a::2]:110"),
        Rule::preserve("pop3-2", "[2001:db8:2::5]:110", "[2001:db8:a::2]:110"),
        Rule::preserve("bulk-1", "[2001:db8:113::5]:9000", "[2001:db8:a::2]:9000"),
        Rule::preserve("bulk-2", "[2001:db8:2::5]:9000", "[2001:db8:a::2]:9000"),
    ];
    let rig = Rig::s3(engine, &rules)?;
    let at_mail = |port| S3::mail(Family::V6, port).to_string();
    let mailbox = Server::start(&rig.hosts.mail, &at_mail(110), pop3)?;
    let _bulk = Server::start(&rig.hosts.mail, &at_mail(9000), Bulk::serve)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        let clients: [(&Namespace, IpAddr); 2] = [
            (&hosts.near, S3::near(Family::V6)),
            (&hosts.far, S3::far(Family::V6)),
        ];
        for (client, truth) in clients {
            for uplink in [1, 2] {
                let stream = connect(client, S3::public_of(Family::V6, uplink, 110))?;
                let said = pop3_client(stream)?;
                let seen = mailbox.peers().last().map(SocketAddr::ip);
                ensure!(seen == Some(truth), "{truth} was seen as {seen:?}");
                downloads_by(hosts, client, uplink)?;
                outcome = outcome.with(&format!("{truth} by uplink {uplink}"), said);
            }
        }
        Ok(outcome)
    })
}

/// Downloads by one uplink and checks that the other one carried none of it.
fn downloads_by(hosts: &S3, client: &Namespace, uplink: usize) -> Result<()> {
    let other = ["up2", "up1"][uplink - 1];
    let before = hosts.internet.device_counters(other)?.rx_packets;
    let stream = connect(client, S3::public_of(Family::V6, uplink, 9000))?;
    let [sent, received] = bulk_transfer(stream, Direction::Download, MEGABYTE, 3)?;
    ensure!(sent == received, "other bytes arrived");
    let moved = hosts.internet.device_counters(other)?.rx_packets - before;
    ensure!(
        moved <= NOISE,
        "asked by uplink {uplink}, but {other} carried {moved} packets of replies"
    );
    Ok(())
}

#[rstest]
fn replies_leave_by_the_way_requests_came(
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, uplinks)
}
