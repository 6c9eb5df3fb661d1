//! The way's limits are found out through the gateway: how large a packet may be, and how many hops there are.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use rstest::rstest;
use tests::netns::Namespace;
use tests::packet::Transport;
use tests::probe::{Capture, Probe, SocketError};
use tests::process;
use tests::responder::{Bulk, Direction, PATIENCE, Server, UdpEcho, bulk_transfer, connect};
use tests::scenario::engines::{IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baselines, Chain, Engine, Family, Outcome, Rig, Rule, Source};

/// The listener and the backend have this port.
const PORT: u16 = 7;

/// Between client and gateway, and between gateway and router.
const LINKS: [u32; 2] = [1500, 1400];

/// What the router lets pass to the server.
const NARROW: u32 = 1300;

const MEGABYTE: u64 = 1_000_000;

fn rule(family: Family, source: Source) -> Rule {
    let v4 = Rule::masquerade("echo", "203.0.113.5:7", "10.2.0.2:7");
    let v6 = Rule::masquerade("echo", "[2001:db8:113::5]:7", "[2001:db8:b::2]:7");
    family.pick(v4, v6).from(source)
}

/// IP and UDP headers.
fn headers(family: Family) -> usize {
    family.pick(20, 40) + 8
}

/// A datagram that makes an IP packet of this size.
fn filling(family: Family, size: u32) -> Vec<u8> {
    vec![7; size as usize - headers(family)]
}

fn bulk(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rig = Rig::chain_on(LINKS, engine, &[rule(family, source)])?;
    rig.hosts.narrow(NARROW)?;
    let server = Chain::server(family, PORT).to_string();
    let _server = Server::start(&rig.hosts.server, &server, Bulk::serve)?;
    rig.observe(|hosts| {
        let capture = Capture::start(&hosts.client, "eth0")?;
        for direction in [Direction::Upload, Direction::Download] {
            let stream = connect(&hosts.client, Chain::gateway(family, PORT))?;
            let [sent, received] = bulk_transfer(stream, direction, MEGABYTE, 1)
                .with_context(|| format!("{direction:?}"))?;
            ensure!(
                sent == received,
                "{direction:?}: other bytes than were sent"
            );
        }
        // How many of each is a question of time: several segments are on their way when the first is refused.
        let mut told: Vec<_> = capture
            .packets()?
            .into_iter()
            .filter_map(|(packet, _)| {
                packet.quote().ok()?;
                let Transport::Icmp(icmp) = packet.transport else {
                    return None;
                };
                Some((
                    packet.ip.source(),
                    icmp.kind,
                    icmp.code,
                    u32::from_be_bytes(icmp.rest),
                ))
            })
            .collect();
        told.sort_unstable();
        told.dedup();
        Ok(Outcome::default().with_debug("the client is told", told))
    })
}

#[rstest]
fn bulk_tcp_finds_the_way_s_mtu_where_the_client_is_shown(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| bulk(engine, family, Source::Preserve))
}

#[rstest]
fn bulk_tcp_finds_the_way_s_mtu_where_the_client_is_hidden(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| bulk(engine, family, Source::Masquerade))
}

/// Without the data, whose length the capture shows.
fn told(probe: &Probe) -> Result<SocketError> {
    let mut error = probe.error()?;
    error.data.clear();
    Ok(error)
}

/// A client that wants nothing fragmented is told by the gateway, then by the router, and then gets through.
fn too_big(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rig = Rig::chain_on(LINKS, engine, &[rule(family, source).udp()])?;
    rig.hosts.narrow(NARROW)?;
    let server = Chain::server(family, PORT).to_string();
    let _server = UdpEcho::start(&rig.hosts.server, &server)?;
    rig.observe(|hosts| {
        let capture = Capture::start(&hosts.client, "eth0")?;
        let client = SocketAddr::new(Chain::client(family), 40000);
        let probe = Probe::open(&hosts.client, client, Chain::gateway(family, PORT))?;
        probe.discover_mtu()?;
        let mut outcome = Outcome::default();
        for (size, mtu) in [(1450, LINKS[1]), (LINKS[1], NARROW)] {
            probe.send(&filling(family, size))?;
            let error = told(&probe)?;
            ensure!(
                (error.error, error.mtu) == (Errno::EMSGSIZE, mtu),
                "{size} bytes: {error:?}"
            );
            outcome = outcome
                .with_debug(&format!("{size} bytes"), error)
                .with(&format!("{size} bytes, MTU known"), probe.mtu()?);
        }
        let refused = probe
            .send(&filling(family, NARROW + 1))
            .expect_err("this host knows the way's MTU");
        assert_eq!(refused.raw_os_error(), Some(libc::EMSGSIZE));
        while probe.next_error()?.is_some() {}
        probe.send(&filling(family, NARROW))?;
        ensure!(probe.receive()? == filling(family, NARROW), "another echo");
        Ok(outcome.with("on the wire", errors(&capture)?))
    })
}

/// Every ICMP error that was captured. All of their checksums are right.
fn errors(capture: &Capture) -> Result<String> {
    let errors = capture.errors()?.join("\n");
    ensure!(!errors.contains("wrong"), "{errors}");
    Ok(errors)
}

#[rstest]
fn a_client_that_is_shown_is_told_the_mtu(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| too_big(engine, family, Source::Preserve))
}

#[rstest]
fn a_client_that_is_hidden_is_told_the_mtu(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| too_big(engine, family, Source::Masquerade))
}

/// The server's replies are too large for the link to the client.
fn reply_too_big(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rig = Rig::chain_on([1400, 1500], engine, &[rule(family, source).udp()])?;
    let own = Chain::server(family, PORT);
    let listener = rig.hosts.server.run(|| UdpSocket::bind(own))??;
    listener.set_read_timeout(Some(PATIENCE))?;
    rig.observe(|hosts| {
        let capture = Capture::start(&hosts.server, "eth0")?;
        let client = SocketAddr::new(Chain::client(family), 40000);
        let client = Probe::open(&hosts.client, client, Chain::gateway(family, PORT))?;
        client.send(b"request")?;
        let (_, peer) = listener.recv_from(&mut [0; 64])?;
        let probe = Probe::on(listener.try_clone()?, peer)?;
        probe.discover_mtu()?;
        probe.send(&filling(family, 1450))?;
        let error = told(&probe)?;
        probe.send(&filling(family, 1400))?;
        ensure!(client.receive()? == filling(family, 1400), "another reply");
        // Where the client is hidden, its port is the gateway's choice.
        let plain = |text: String| text.replace(&format!(":{}", peer.port()), ":PORT");
        Ok(Outcome::default()
            .with("socket", plain(format!("{error:?}")))
            .with("on the wire", plain(errors(&capture)?)))
    })
}

#[rstest]
fn a_server_is_told_the_mtu_towards_a_client_that_is_shown(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        reply_too_big(engine, family, Source::Preserve)
    })
}

#[rstest]
fn a_server_is_told_the_mtu_towards_a_client_that_is_hidden(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        reply_too_big(engine, family, Source::Masquerade)
    })
}

/// One datagram for each hop, to a port where nobody listens. The flow is not there yet, or is: both ways of asking.
fn hops(engine: Engine, family: Family, source: Source) -> Result<Outcome> {
    let rig = Rig::chain(engine, &[rule(family, source).udp()])?;
    rig.observe(|hosts| {
        let capture = Capture::start(&hosts.client, "eth0")?;
        let mut outcome = Outcome::default();
        for (port, hops) in [(40001, &[1][..]), (40002, &[2]), (40003, &[3, 2, 1])] {
            let client = SocketAddr::new(Chain::client(family), port);
            let probe = Probe::open(&hosts.client, client, Chain::gateway(family, PORT))?;
            for hop in hops {
                probe.set_ttl(*hop)?;
                probe.send(b"how far?")?;
                outcome = outcome.with_debug(&format!("{hop} from {port}"), probe.error()?);
            }
        }
        Ok(outcome.with("on the wire", errors(&capture)?))
    })
}

#[rstest]
fn each_hop_is_heard_where_the_client_is_shown(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| hops(engine, family, Source::Preserve))
}

#[rstest]
fn each_hop_is_heard_where_the_client_is_hidden(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| hops(engine, family, Source::Masquerade))
}

/// The server's replies with too few hops left for the client.
fn reply_hops(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = Rig::chain(engine, &[rule(family, Source::Preserve).udp()])?;
    let own = Chain::server(family, PORT);
    let listener = rig.hosts.server.run(|| UdpSocket::bind(own))??;
    listener.set_read_timeout(Some(PATIENCE))?;
    rig.observe(|hosts| {
        let capture = Capture::start(&hosts.server, "eth0")?;
        let client = SocketAddr::new(Chain::client(family), 40000);
        let client = Probe::open(&hosts.client, client, Chain::gateway(family, PORT))?;
        client.send(b"request")?;
        let (_, peer) = listener.recv_from(&mut [0; 64])?;
        let probe = Probe::on(listener.try_clone()?, peer)?;
        let mut outcome = Outcome::default();
        for ttl in [1, 2] {
            probe.set_ttl(ttl)?;
            probe.send(b"how far?")?;
            outcome = outcome.with_debug(&format!("TTL {ttl}"), probe.error()?);
        }
        probe.set_ttl(3)?;
        probe.send(b"far enough")?;
        ensure!(client.receive()? == b"far enough", "another reply");
        Ok(outcome.with("on the wire", errors(&capture)?))
    })
}

#[rstest]
fn each_hop_back_is_heard(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| reply_hops(engine, family))
}

/// What a program prints, without the times.
fn printed(client: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = client.command(program);
    let text = process::output(command.args(arguments), Duration::from_secs(60))?;
    let lines = text.lines().map(|line| {
        // One writes "0.05 ms", the other "0.05ms".
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_time = |at: &usize| words[*at].ends_with("ms") || words.get(at + 1) == Some(&"ms");
        let kept = (0..words.len()).filter(|at| !is_time(at));
        kept.map(|at| words[at]).collect::<Vec<_>>().join(" ")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn tools(engine: Engine, family: Family) -> Result<Outcome> {
    // Each of the two counts ports up from its own.
    let v4 = [
        Rule::masquerade("trace", "203.0.113.5:33434-33533", "10.2.0.2:33434-33533"),
        Rule::masquerade("path", "203.0.113.5:44444-44543", "10.2.0.2:44444-44543"),
    ];
    let v6 = [
        Rule::masquerade(
            "trace",
            "[2001:db8:113::5]:33434-33533",
            "[2001:db8:b::2]:33434-33533",
        ),
        Rule::masquerade(
            "path",
            "[2001:db8:113::5]:44444-44543",
            "[2001:db8:b::2]:44444-44543",
        ),
    ];
    let rules = family
        .pick(v4, v6)
        .map(|rule| rule.from(Source::Preserve).udp());
    let rig = Rig::chain_on(LINKS, engine, &rules)?;
    rig.hosts.narrow(NARROW)?;
    rig.observe(|hosts| {
        let target = Chain::gateway(family, PORT).ip().to_string();
        let traced = printed(
            &hosts.client,
            "traceroute",
            &["-n", "-q", "1", "-m", "6", &target],
        )?;
        let path = printed(&hosts.client, "tracepath", &["-n", "-m", "6", &target])?;
        ensure!(path.contains("pmtu 1300"), "tracepath found:\n{path}");
        Ok(Outcome::default()
            .with("traceroute", traced)
            .with("tracepath", path))
    })
}

#[rstest]
fn traceroute_and_tracepath_see_the_way(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| tools(engine, family))
}
