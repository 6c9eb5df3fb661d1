//! S2: what a LAN behind the gateway may reach, as whom, and what may reach it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use tests::responder::{
    Ping, Server, UdpEcho, connect, connect_within, echo, first_line, kind, pop3, pop3_client,
    smtp, smtp_client, tcp_exchange, tell_port, udp_client, udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, Masquerade, Outcome, Rig, S2, Source};

/// Long enough for one retransmission of a SYN, after which a client that is kept out is certain to be.
const KEPT_OUT: Duration = Duration::from_millis(1500);

fn rule(family: Family) -> Masquerade {
    Masquerade {
        name: "lan-mail",
        from: family.pick(&["10.0.0.0/24"], &["fd00::/64"]),
        interface: S2::INSIDE,
        ports: &["tcp/25", "tcp/110", "udp/53", "tcp/53"],
        source: Source::Masquerade,
        unfiltered: false,
    }
}

/// Both clients use all that is permitted.
fn permitted(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s2(engine, &[rule(family)])?;
    let hosts = &rig.hosts;
    let exchanger = Server::start(&hosts.mail, &S2::mail(family, 25).to_string(), smtp)?;
    let mailbox = Server::start(&hosts.mail, &S2::mail(family, 110).to_string(), pop3)?;
    let names = UdpEcho::start(&hosts.dns, &S2::dns(family, 53).to_string())?;
    let long_names = Server::start(&hosts.dns, &S2::dns(family, 53).to_string(), echo)?;
    rig.observe(|hosts| {
        let mut outcome = Outcome::default();
        for (name, client) in [("one", &hosts.one), ("two", &hosts.two)] {
            let answer = udp_exchange(client, S2::dns(family, 53), name.as_bytes())?;
            ensure!(answer == name.as_bytes(), "other bytes came back");
            let mut stream = connect(client, S2::dns(family, 53))?;
            tcp_exchange(&mut stream, name.as_bytes())?;
            let stream = connect(client, S2::mail(family, 25))?;
            let sent = smtp_client(stream, "Subject: hello\n\nbody")?;
            let fetched = pop3_client(connect(client, S2::mail(family, 110))?)?;
            outcome = outcome
                .with(&format!("SMTP of {name}"), sent)
                .with(&format!("POP3 of {name}"), fetched);
        }
        Ok(outcome
            .with_debug("SMTP peers", exchanger.peer_addresses())
            .with_debug("POP3 peers", mailbox.peer_addresses())
            .with_debug("DNS peers", names.peer_addresses())
            .with_debug("DNS peers by TCP", long_names.peer_addresses()))
    })
}

#[rstest]
fn mail_and_dns_pass_as_the_gateway(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = permitted(engine, family)?;
        let gateway = format!("[{}]", S2::outside(family, 0).ip());
        for service in ["SMTP", "POP3", "DNS"] {
            let seen = outcome.get(&format!("{service} peers"));
            assert_eq!(seen, Some(&*gateway), "{service}");
        }
        Ok(outcome)
    })
}

/// Ports that are not in the list, with servers that would answer.
fn refused(engine: Engine, family: Family) -> Result<Outcome> {
    let mut rig = Rig::s2(engine, &[rule(family)])?;
    let web = Server::start(
        &rig.hosts.mail,
        &S2::mail(family, 80).to_string(),
        tell_port,
    )?;
    let time = UdpEcho::start(&rig.hosts.dns, &S2::dns(family, 123).to_string())?;
    let outcome = rig.observe(|hosts| {
        let refused = connect_within(&hosts.one, S2::mail(family, 80), KEPT_OUT);
        let silent = udp_client(&hosts.one, S2::dns(family, 123))?;
        silent.send(b"what time is it")?;
        // The SYN took longer than a datagram that passes could.
        connect_within(&hosts.two, S2::mail(family, 80), KEPT_OUT).expect_err("not permitted");
        Ok(Outcome::default()
            .with("web", refused.is_ok())
            .with("web connections", web.peers().len())
            .with("datagrams", time.peers().len()))
    })?;
    assert_eq!(outcome.get("web"), Some("false"));
    assert_eq!(outcome.get("web connections"), Some("0"));
    assert_eq!(outcome.get("datagrams"), Some("0"));
    if let Some(forwarder) = rig.gateway.forwarder() {
        // Two SYNs and a datagram.
        let refused = forwarder.dropped("not-permitted")?;
        assert!(refused >= 3, "{refused} packets were counted");
    }
    Ok(outcome)
}

#[rstest]
fn everything_else_is_refused(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family
        .among(&BASELINE)
        .compare(engine, |engine| refused(engine, family))
}

/// A host outside knows the way to the LAN, and a stranger knows the client's translated port.
fn intrusion(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s2(engine, &[rule(family)])?;
    let inner = SocketAddr::new(S2::one(family), 8080);
    let service = Server::start(&rig.hosts.one, &inner.to_string(), tell_port)?;
    let names = UdpEcho::start(&rig.hosts.dns, &S2::dns(family, 53).to_string())?;
    rig.observe(|hosts| {
        let lan = family.pick(
            "route add 10.0.0.0/24 via 203.0.113.5",
            "route add fd00::/64 via 2001:db8:113::5",
        );
        hosts.internet.ip(lan)?;
        let opened = connect_within(&hosts.mail, inner, KEPT_OUT);

        // Not connected: whatever arrives is heard.
        let any = family.any(0);
        let client = hosts.one.run(|| std::net::UdpSocket::bind(&any))??;
        client.set_read_timeout(Some(tests::responder::PATIENCE))?;
        client.send_to(b"query", S2::dns(family, 53))?;
        let mut heard = [0; 64];
        client.recv_from(&mut heard)?;
        let mapped = *names.peers().first().expect("it answered");
        let stranger = udp_client(&hosts.mail, mapped)?;
        stranger.send(b"intrusion")?;
        // Answered after the stranger's datagram was sent, and over the same router.
        client.send_to(b"again", S2::dns(family, 53))?;
        let (length, from) = client.recv_from(&mut heard)?;
        Ok(Outcome::default()
            .with("opened", opened.is_ok())
            .with("connections", service.peers().len())
            .with("heard", String::from_utf8_lossy(&heard[..length]))
            .with("from", from))
    })
}

#[rstest]
fn only_replies_come_in(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = intrusion(engine, family)?;
        assert_eq!(outcome.get("opened"), Some("false"));
        assert_eq!(outcome.get("connections"), Some("0"));
        assert_eq!(outcome.get("heard"), Some("again"));
        Ok(outcome)
    })
}

/// Both clients ping with the same identifier and sequence number before either is answered.
fn pings(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s2(engine, &[rule(family)])?;
    rig.observe(|hosts| {
        let target = S2::mail(family, 0).ip();
        let clients = [
            ("one", Ping::open(&hosts.one, target, 77)?),
            ("two", Ping::open(&hosts.two, target, 77)?),
        ];
        let mut outcome = Outcome::default();
        for sequence in [1, 2] {
            for (name, client) in &clients {
                client.ask(sequence, format!("{name} asks").as_bytes())?;
            }
            for (name, client) in &clients {
                let (number, data) = client.hear()?;
                let name = format!("{name}, {sequence}");
                outcome = outcome.with(
                    &name,
                    format!("{number}: {}", String::from_utf8_lossy(&data)),
                );
            }
        }
        Ok(outcome)
    })
}

#[rstest]
fn pings_with_the_same_identifier_are_told_apart(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = pings(engine, family)?;
        assert_eq!(outcome.get("one, 2"), Some("2: one asks"));
        assert_eq!(outcome.get("two, 1"), Some("1: two asks"));
        Ok(outcome)
    })
}

/// What the clients ask of the gateway itself, at either of its addresses, permitted port or not.
fn own_services(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::s2(engine, &[rule(family)])?;
    let gateway = &rig.hosts.gateway;
    let at = [S2::inside(family, 53), S2::outside(family, 53)];
    let names = at
        .iter()
        .map(|address| UdpEcho::start(gateway, &address.to_string()))
        .collect::<Result<Vec<_>>>()?;
    let ssh = Server::start(gateway, &S2::inside(family, 22).to_string(), tell_port)?;
    rig.observe(|hosts| {
        for address in at {
            udp_exchange(&hosts.one, address, b"query")?;
        }
        let said = first_line(connect(&hosts.one, S2::inside(family, 22)))?;
        let nothing = connect(&hosts.one, S2::inside(family, 25));
        let seen: Vec<Vec<IpAddr>> = names.iter().map(UdpEcho::peer_addresses).collect();
        Ok(Outcome::default()
            .with_debug("DNS peers", seen)
            .with("ssh", said)
            .with_debug("ssh peers", ssh.peer_addresses())
            .with(
                "no listener",
                nothing.err().map_or_else(String::new, |error| kind(&error)),
            ))
    })
}

#[rstest]
fn the_gateways_own_services_are_left_alone(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = own_services(engine, family)?;
        let one = S2::one(family);
        assert_eq!(
            outcome.get("DNS peers"),
            Some(&*format!("[[{one}], [{one}]]"))
        );
        assert_eq!(outcome.get("no listener"), Some("ConnectionRefused"));
        Ok(outcome)
    })
}
