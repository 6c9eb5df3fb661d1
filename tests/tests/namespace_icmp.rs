//! ICMP errors about translated packets arrive translated: to whom they concern, about the packet that host sent, with
//! every checksum right. Errors about nothing that is known arrive nowhere.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::netns::Namespace;
use tests::packet::{IcmpError, Packet, Transport, tcp_flags};
use tests::probe::{Capture, Probe};
use tests::responder::{PATIENCE, Ping, UdpEcho, connect_from, exchange, udp_client, udp_exchange};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baselines, Chain, Engine, Family, Outcome, Rig, Rule, S0, Source};

/// The listener and the backend of every test here have this port.
const PORT: u16 = 7;

/// A datagram that errors quote whole, and one of which they quote the beginning.
const LENGTHS: [usize; 2] = [13, 1400];

fn rule(family: Family, source: Source) -> Rule {
    let v4 = Rule::masquerade("echo", "203.0.113.5:7", "10.2.0.2:7");
    let v6 = Rule::masquerade("echo", "[2001:db8:113::5]:7", "[2001:db8:b::2]:7");
    family.pick(v4, v6).from(source)
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

/// What a connected socket of `client` hears when it sends, and what arrives at its device.
fn complain(client: &Namespace, from: IpAddr, target: SocketAddr) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let capture = Capture::start(client, "eth0")?;
    for (port, length) in (40001..).zip(LENGTHS) {
        let probe = Probe::open(client, SocketAddr::new(from, port), target)?;
        let sent = payload(length);
        probe.send(&sent)?;
        let mut error = probe.error()?;
        ensure!(
            sent.starts_with(&error.data),
            "what is quoted is not what was sent: {:?}",
            error.data
        );
        let quoted = std::mem::take(&mut error.data).len();
        outcome = outcome
            .with_debug(&format!("{length} bytes"), error)
            .with(&format!("{length} bytes, quoted"), quoted);
    }
    // Packet sockets come before the stack: what a socket has heard is captured.
    let packets = capture.packets()?;
    let errors = packets.iter().filter_map(|(packet, _)| packet.quote().ok());
    for (quote, (port, length)) in errors.zip((40001..).zip(LENGTHS)) {
        let source = SocketAddr::new(from, port).to_string();
        let sent = Packet::udp(&source, &target.to_string()).with_payload(&payload(length));
        let sent = sent.to_bytes().split_off(sent.transport_offset());
        let quoted = quote.segment;
        // Ports, and the checksum that goes with them, even where it cannot be verified for want of the rest.
        ensure!(
            sent.starts_with(&quoted),
            "quotes {quoted:02x?} of {sent:02x?}"
        );
    }
    let errors = capture.errors()?;
    ensure!(errors.len() == LENGTHS.len(), "not one each: {errors:#?}");
    ensure!(!errors.concat().contains("wrong"), "{errors:#?}");
    Ok(outcome.with("on the wire", errors.join("\n")))
}

fn closed_port(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rig = Rig::chain(engine, &[rule(family, source).udp()])?;
    rig.observe(|hosts| {
        let target = Chain::gateway(family, PORT);
        let refused =
            exchange(&udp_client(&hosts.client, target)?, b"anybody?").expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        complain(&hosts.client, Chain::client(family), target)
    })
}

#[rstest]
fn a_closed_port_refuses_whose_client_is_shown(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        closed_port(engine, family, Source::Preserve)
    })
}

#[rstest]
fn a_closed_port_refuses_whose_client_is_hidden(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        closed_port(engine, family, Source::Masquerade)
    })
}

/// In and out by the same device.
#[rstest]
fn a_closed_port_refuses_on_one_interface(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        let v4 = Rule::masquerade("echo", "203.0.113.5:7", "195.228.245.1:7").udp();
        let v6 = Rule::masquerade("echo", "[2001:db8:113::5]:7", "[2001:db8:195::1]:7").udp();
        let rig = Rig::s0(engine, &[family.pick(v4, v6)])?;
        rig.observe(|hosts| complain(&hosts.client, S0::client(family), S0::gateway(family, PORT)))
    })
}

/// The router behind the gateway knows no way to the server.
fn no_way_behind(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rule = rule(family, source);
    let rig = Rig::chain(engine, &[rule, rule.udp().named("udp")])?;
    let server = Chain::server(family, PORT);
    rig.observe(|hosts| {
        let route = format!("route add unreachable {} metric 1\n", server.ip());
        hosts.router.ip(&route)?;
        let (client, target) = (Chain::client(family), Chain::gateway(family, PORT));
        let outcome = complain(&hosts.client, client, target)?;

        let capture = Capture::start(&hosts.client, "eth0")?;
        let refused = connect_from(&hosts.client, client, target, PATIENCE)
            .expect_err("there is no way to the server");
        let refused = refused.downcast::<io::Error>().context("of connect(2)")?;
        let (error, text) = capture.wait_error()?;
        ensure!(!text.contains("wrong"), "{text}");
        let port = error.quote()?.source().port();
        Ok(outcome.with_debug("TCP", refused.kind()).with(
            "TCP, on the wire",
            text.replace(&format!(":{port} "), ":PORT "),
        ))
    })
}

#[rstest]
fn a_router_s_errors_arrive_where_the_client_is_shown(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        no_way_behind(engine, family, Source::Preserve)
    })
}

#[rstest]
fn a_router_s_errors_arrive_where_the_client_is_hidden(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        no_way_behind(engine, family, Source::Masquerade)
    })
}

/// The server answers a client that has gone.
fn client_gone(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rig = Rig::chain(engine, &[rule(family, source).udp()])?;
    let own = Chain::server(family, PORT);
    let server = rig.hosts.server.run(|| UdpSocket::bind(own))??;
    server.set_read_timeout(Some(PATIENCE))?;
    rig.observe(|hosts| {
        let capture = Capture::start(&hosts.server, "eth0")?;
        let mut outcome = Outcome::default();
        for length in LENGTHS {
            let client = udp_client(&hosts.client, Chain::gateway(family, PORT))?;
            client.send(b"request")?;
            let (_, peer) = server.recv_from(&mut [0; 64])?;
            // Gone for this peer. Closing it could take a moment, if a child is just being started with it.
            client.connect(Chain::gateway(family, PORT + 1))?;
            let known = capture.errors()?.len();
            server.send_to(&payload(length), peer)?;
            capture.wait_errors(known + 1)?;
            // Where the client is hidden, its port is the gateway's choice.
            let text = capture.errors()?.split_off(known).join("\n");
            ensure!(!text.contains("wrong"), "{text}");
            outcome = outcome.with(
                &format!("{length} bytes"),
                text.replace(&format!(":{} ", peer.port()), ":PORT "),
            );
        }
        Ok(outcome)
    })
}

#[rstest]
fn a_client_s_errors_arrive_where_it_is_shown(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        client_gone(engine, family, Source::Preserve)
    })
}

#[rstest]
fn a_client_s_errors_arrive_where_it_is_hidden(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        client_gone(engine, family, Source::Masquerade)
    })
}

/// Errors as a host on one side of the gateway would send them about packets it got from there; the last one is right.
struct Complaints {
    /// The host that complains.
    host: SocketAddr,
    /// Who it is told it talks to: the gateway.
    gateway: SocketAddr,
    macs: [[u8; 6]; 2],
}

impl Complaints {
    fn about(&self, quoted: &Packet) -> Vec<u8> {
        let from = self.host.ip().to_string();
        let [source, destination] = self.macs;
        Packet::error_about(&from, IcmpError::PortUnreachable, quoted)
            .with_macs(source, destination)
            .to_bytes()
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let (host, gateway) = (self.host.to_string(), self.gateway.to_string());
        let right = Packet::udp(&gateway, &host).with_payload(b"what was sent");
        let other_port = |at: SocketAddr| SocketAddr::new(at.ip(), at.port() ^ 1).to_string();
        // A quote of the packet the host itself has sent, addressed as if it were the gateway's.
        let own = Packet::udp(&host, &gateway);
        let turned = {
            let quote = own.to_bytes().split_off(own.network_offset());
            let mut error = Packet::error_about(
                &self.host.ip().to_string(),
                IcmpError::PortUnreachable,
                &right,
            );
            error.payload = quote;
            error.with_macs(self.macs[0], self.macs[1]).to_bytes()
        };
        let cut = {
            let mut error = Packet::error_about(
                &self.host.ip().to_string(),
                IcmpError::PortUnreachable,
                &right,
            );
            // Up to the middle of the destination port.
            error.payload.truncate(right.ip.header_len() + 3);
            error.with_macs(self.macs[0], self.macs[1]).to_bytes()
        };
        vec![
            self.about(&Packet::udp(&other_port(self.gateway), &host)),
            self.about(&Packet::udp(&gateway, &other_port(self.host))),
            self.about(&Packet::tcp(&gateway, &host, tcp_flags::ACK)),
            turned,
            cut,
            self.about(&right),
        ]
    }
}

fn strays(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::chain(engine, &[rule(family, Source::Masquerade).udp()])?;
    let server = UdpEcho::start(&rig.hosts.server, &Chain::server(family, PORT).to_string())?;
    rig.observe(|hosts| {
        let client = SocketAddr::new(Chain::client(family), 40000);
        let listener = Chain::gateway(family, PORT);
        let probe = Probe::open(&hosts.client, client, listener)?;
        probe.send(b"what was sent")?;
        probe.receive()?;
        let hidden = *server.peers().first().context("the server heard nothing")?;

        let captures = [
            Capture::start(&hosts.client, "eth0")?,
            Capture::start(&hosts.server, "eth0")?,
        ];
        let from_server = Complaints {
            host: Chain::server(family, PORT),
            gateway: hidden,
            macs: [Chain::SERVER_MAC, Chain::DOWN_MAC],
        };
        hosts.server.send_frames("eth0", &from_server.frames())?;
        let from_client = Complaints {
            host: client,
            gateway: listener,
            macs: [Chain::CLIENT_MAC, Chain::WAN_MAC],
        };
        hosts.client.send_frames("eth0", &from_client.frames())?;
        let mut outcome = Outcome::default();
        for (name, capture) in ["client", "server"].into_iter().zip(&captures) {
            capture.wait_errors(1)?;
            let text = capture.errors()?.join("\n");
            // The hidden port is the gateway's choice, and it may be the client's own.
            let chosen = format!("10.1.0.1:{} ", hidden.port());
            let chosen_v6 = format!("[2001:db8:a::1]:{} ", hidden.port());
            let text = text
                .replace(&chosen, "10.1.0.1:PORT ")
                .replace(&chosen_v6, "[2001:db8:a::1]:PORT ");
            outcome = outcome.with(name, text);
        }
        Ok(outcome)
    })
}

#[rstest]
fn errors_about_nothing_known_end_at_the_gateway(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        let outcome = strays(engine, family)?;
        for side in ["client", "server"] {
            let errors = outcome.get(side).unwrap_or_default();
            assert_eq!(errors.lines().count(), 1, "at the {side}: {errors}");
        }
        Ok(outcome)
    })
}

/// The forwarded address is the gateway's still.
fn echoes(engine: Engine, family: Family) -> Result<Outcome> {
    let rule = rule(family, Source::Masquerade).udp();
    let rig = Rig::chain(engine, &[rule])?;
    let _server = UdpEcho::start(&rig.hosts.server, &Chain::server(family, PORT).to_string())?;
    rig.observe(|hosts| {
        let target = Chain::gateway(family, PORT);
        let captures = [
            Capture::start(&hosts.client, "eth0")?,
            Capture::start(&hosts.server, "eth0")?,
        ];
        // The identifier of one is the port of a flow.
        let client = udp_client(&hosts.client, target)?;
        exchange(&client, b"a flow")?;
        for identifier in [1, client.local_addr()?.port()] {
            let ping = Ping::open(&hosts.client, target.ip(), identifier)?;
            for (sequence, length) in (1..).zip([0, 56, 1400]) {
                ping.ask(sequence, &payload(length))?;
                ensure!(ping.hear()? == (sequence, payload(length)), "another echo");
            }
        }
        udp_exchange(&hosts.client, target, b"and datagrams still pass")?;
        let [client, server] = captures.each_ref().map(|capture| {
            let packets = capture.packets()?;
            let is_icmp = |packet: &Packet| match &packet.transport {
                // Neighbour discovery goes on as ever.
                Transport::Icmp(icmp) => !(133..=137).contains(&icmp.kind) && icmp.kind != 143,
                _ => false,
            };
            let echoes = packets.into_iter().filter(|(packet, _)| is_icmp(packet));
            Ok::<_, anyhow::Error>(echoes.map(|(packet, _)| packet).collect::<Vec<_>>())
        });
        let (client, server) = (client?, server?);
        ensure!(server.is_empty(), "the server was pinged: {server:?}");
        let replies = client
            .iter()
            .map(|packet| (packet.ip.source(), packet.ip.ttl(), packet.payload.len()));
        Ok(Outcome::default().with_debug("replies", replies.collect::<Vec<_>>()))
    })
}

#[rstest]
fn the_gateway_answers_echo_requests(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| echoes(engine, family))
}
