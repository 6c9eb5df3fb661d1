//! Each file of `examples/`, word for word, in the situation it is for. The devices have the names that the file has.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use rstest::rstest;
use tests::netns::{Prefix, Wire};
use tests::responder::{
    Server, UdpEcho, connect, connect_within, first_line, pop3, pop3_client, smtp, smtp_client,
    tell_ends, udp_exchange,
};
use tests::scenario::engines::{AUTO, IPTABLES};
use tests::scenario::{
    Baseline, Engine, Family, GatewayConfig, Hairpin, Masquerade, Outcome, Output, Protocol, Rig,
    Rule, S0, S2, S4, Source,
};

const MESSAGE: &str = "Subject: hello\n\nbody";

/// Long enough for one retransmission of a SYN, after which a client that is kept out is certain to be.
const KEPT_OUT: std::time::Duration = std::time::Duration::from_millis(1500);

fn rules(rules: &[Rule]) -> GatewayConfig {
    GatewayConfig {
        rules: rules.to_vec(),
        ..GatewayConfig::default()
    }
}

fn s0(engine: Engine) -> Result<Outcome> {
    let rig = Rig::start_file(
        engine,
        S0::build(&Prefix::unique(), Wire::CABLE)?,
        include_str!("../../examples/s0-pop3.toml"),
        &rules(&[Rule::masquerade("pop3", "*:110", "195.228.245.1:110")]),
    )?;
    let mailbox = Server::start(&rig.hosts.server, "195.228.245.1:110", pop3)?;
    rig.observe(|hosts| {
        let fetched = pop3_client(connect(&hosts.client, S0::at_gateway(110))?)?;
        Ok(Outcome::default()
            .with("POP3", fetched)
            .with_debug("peers", mailbox.peer_addresses()))
    })
}

#[rstest]
fn s0_pop3(#[values(IPTABLES, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, s0)
}

/// The client asks for a mail host that does not even exist, and the proxies are two.
fn s1(engine: Engine) -> Result<Outcome> {
    let hosts = S0::build(&Prefix::unique(), Wire::CABLE)?;
    hosts.server.ip("addr add 195.228.245.2/24 dev eth0")?;
    hosts
        .internet
        .ip("route add 192.0.2.0/24 via 203.0.113.5")?;
    for last in 20..=23 {
        hosts
            .gateway
            .ip(&format!("addr add 203.0.113.{last}/24 dev eth0"))?;
    }
    let pool = Source::Pool("203.0.113.20-203.0.113.23");
    let rig = Rig::start_file(
        engine,
        hosts,
        include_str!("../../examples/s1-mail-proxies.toml"),
        // One of the proxies: nobody can tell which it was.
        &rules(&[Rule::preserve("smtp", "*:25", "195.228.245.1:2525").from(pool)]),
    )?;
    let proxies = Server::start(&rig.hosts.server, "0.0.0.0:2525", smtp)?;
    rig.observe(|hosts| {
        let wanted: SocketAddr = "192.0.2.99:25".parse()?;
        let mut outcome = Outcome::default();
        for number in 0..5 {
            let sent = smtp_client(connect(&hosts.client, wanted)?, MESSAGE)?;
            outcome = outcome.with(&format!("SMTP {number}"), sent);
        }
        let seen = proxies.peer_addresses();
        ensure!(seen.len() == 1, "one client was seen as {seen:?}");
        let seen = seen[0].to_string();
        ensure!(
            (20..=23).any(|last| seen == format!("203.0.113.{last}")),
            "{seen} is not of the pool"
        );
        Ok(outcome)
    })
}

#[rstest]
fn s1_mail_proxies(#[values(IPTABLES, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, s1)
}

const LAN: Masquerade = Masquerade {
    name: "lan-mail",
    from: &["10.0.0.0/24"],
    interface: S2::INSIDE,
    ports: &["tcp/25", "tcp/110", "tcp/53", "udp/53"],
    source: Source::Masquerade,
    unfiltered: false,
};

const LAN6: Masquerade = Masquerade {
    name: "lan-mail-6",
    from: &["fd00::/64"],
    ..LAN
};

fn s2(engine: Engine) -> Result<Outcome> {
    let config = GatewayConfig {
        masquerades: vec![LAN, LAN6],
        ..GatewayConfig::default()
    };
    let rig = Rig::start_file(
        engine,
        S2::build(&Prefix::unique(), Wire::CABLE)?,
        include_str!("../../examples/s2-lan.toml"),
        &config,
    )?;
    let mut outcome = Outcome::default();
    for family in Family::ALL {
        let (mail, dns) = (&rig.hosts.mail, &rig.hosts.dns);
        let exchanger = Server::start(mail, &S2::mail(family, 25).to_string(), smtp)?;
        let _web = Server::start(mail, &S2::mail(family, 80).to_string(), tell_ends)?;
        let names = UdpEcho::start(dns, &S2::dns(family, 53).to_string())?;
        let facts = rig.observe(|hosts| {
            let sent = smtp_client(connect(&hosts.one, S2::mail(family, 25))?, MESSAGE)?;
            udp_exchange(&hosts.two, S2::dns(family, 53), b"query")?;
            let web = connect_within(&hosts.one, S2::mail(family, 80), KEPT_OUT);
            Ok(Outcome::default()
                .with("SMTP", sent)
                .with_debug("SMTP peers", exchanger.peer_addresses())
                .with_debug("DNS peers", names.peer_addresses())
                .with("web", web.is_ok()))
        })?;
        outcome = outcome.with_debug(&format!("{family:?}"), facts);
    }
    Ok(outcome)
}

#[rstest]
fn s2_lan(#[values(IPTABLES, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, s2)
}

fn s3(engine: Engine) -> Result<Outcome> {
    let inside = |rule, subnet| Rule {
        hairpin: Some(subnet),
        ..rule
    };
    let of = |name, listen, to| inside(Rule::preserve(name, listen, to), "10.1.0.0/24");
    let pop3_6 = Rule::preserve("pop3-6", "[2001:db8:113::5]:110", "[2001:db8:a::2]:110");
    let rig = Rig::start_file(
        engine,
        Hairpin::build(&Prefix::unique(), Wire::CABLE)?,
        include_str!("../../examples/s3-mail-host.toml"),
        &rules(&[
            of("smtp", "203.0.113.5:25", "10.1.0.2:25"),
            of("pop3", "203.0.113.5:110", "10.1.0.2:110"),
            Rule {
                allow: &["203.0.113.0/28"],
                ..of("status", "203.0.113.5:8080-8089", "10.1.0.2:9080-9089")
            },
            inside(pop3_6, "2001:db8:a::/64"),
        ]),
    )?;
    let mail = &rig.hosts.mail;
    let exchanger = Server::start(mail, "10.1.0.2:25", smtp)?;
    let mailbox = Server::start(mail, "[::]:110", pop3)?;
    let _status = Server::start(mail, "10.1.0.2:9081", tell_ends)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (name, client) in [
            ("outside", &hosts.outside),
            ("staff", &hosts.staff),
            ("neighbour", &hosts.neighbour),
        ] {
            let stream = connect(client, Hairpin::public(Family::V4, 25))?;
            outcome = outcome.with(&format!("SMTP of {name}"), smtp_client(stream, MESSAGE)?);
            for family in Family::ALL {
                let stream = connect(client, Hairpin::public(family, 110))?;
                let name = format!("POP3 of {name}, {family:?}");
                outcome = outcome.with(&name, pop3_client(stream)?);
            }
        }
        let status = first_line(connect(&hosts.outside, Hairpin::public(Family::V4, 8081)))?;
        Ok(outcome
            .with("status", status)
            .with_debug("SMTP peers", exchanger.peer_addresses())
            .with_debug("POP3 peers", mailbox.peer_addresses()))
    })
}

#[rstest]
fn s3_mail_host(#[values(IPTABLES, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, s3)
}

fn s4(engine: Engine) -> Result<Outcome> {
    let out = Output {
        name: "mail-out",
        protocol: Protocol::Tcp,
        to_address: "192.0.2.7:25",
        to: "192.0.2.7:986",
    };
    let out6 = Output {
        name: "mail-out-6",
        to_address: "[2001:db8:2::7]:25",
        to: "[2001:db8:2::7]:986",
        ..out
    };
    let config = GatewayConfig {
        rules: vec![Rule::preserve("mail-in", "*:986", "local:25")],
        outputs: vec![out, out6],
        ..GatewayConfig::default()
    };
    let rig = Rig::start_file(
        engine,
        S4::build(&Prefix::unique(), Wire::CABLE)?,
        include_str!("../../examples/s4-port-986.toml"),
        &config,
    )?;
    let mut outcome = Outcome::default();
    for family in Family::ALL {
        let relay = S4::relay(family, 986).to_string();
        let _own = Server::start(&rig.hosts.gateway, &family.any(25), tell_ends)?;
        let _relay = Server::start(&rig.hosts.relay, &relay, tell_ends)?;
        let [came, left] = rig.observe(|hosts| {
            Ok([
                first_line(connect(&hosts.client, S4::gateway(family, 986)))?,
                first_line(connect(&hosts.gateway, S4::relay(family, 25)))?,
            ])
        })?;
        outcome = outcome
            .with(&format!("in, {family:?}"), came)
            .with(&format!("out, {family:?}"), left);
    }
    Ok(outcome)
}

#[rstest]
fn s4_port_986(#[values(IPTABLES, AUTO)] engine: Engine) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, s4)
}
