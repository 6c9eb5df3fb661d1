//! S2: as whom the LAN's hosts appear outside.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::process::wait_for;
use tests::responder::{
    PATIENCE, Server, UdpEcho, connect, connect_within, echo, tcp_exchange, udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, Masquerade, Outcome, Rig, S2, Source};

/// Everything is permitted.
fn rule(family: Family, source: Source) -> Masquerade {
    Masquerade {
        name: "lan",
        from: family.pick(&["10.0.0.0/24"], &["fd00::/64"]),
        interface: S2::INSIDE,
        ports: &[],
        source,
        unfiltered: false,
    }
}

fn fixed(engine: Engine, family: Family) -> Result<Outcome> {
    let source = family.pick(
        Source::Address("198.18.0.20"),
        Source::Address("2001:db8:18::20"),
    );
    let rig = Rig::s2(engine, &[rule(family, source)])?;
    let tcp = Server::start(&rig.hosts.mail, &S2::mail(family, 8080).to_string(), echo)?;
    let udp = UdpEcho::start(&rig.hosts.dns, &S2::dns(family, 53).to_string())?;
    rig.observe(|hosts| {
        for client in [&hosts.one, &hosts.two] {
            tcp_exchange(&mut connect(client, S2::mail(family, 8080))?, b"hello")?;
            udp_exchange(client, S2::dns(family, 53), b"query")?;
        }
        Ok(Outcome::default()
            .with_debug("TCP peers", tcp.peer_addresses())
            .with_debug("UDP peers", udp.peer_addresses()))
    })
}

#[rstest]
fn a_fixed_address(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = fixed(engine, family)?;
        let source = family.pick("[198.18.0.20]", "[2001:db8:18::20]");
        assert_eq!(outcome.get("TCP peers"), Some(source));
        assert_eq!(outcome.get("UDP peers"), Some(source));
        Ok(outcome)
    })
}

/// One client is one address of the pool to everybody (RFC 4787 REQ-2), with either protocol.
#[rstest]
fn a_pool(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    let source = family.pick(
        Source::Pool("198.18.0.20-198.18.0.23"),
        Source::Pool("2001:db8:18::20-2001:db8:18::23"),
    );
    let rig = Rig::s2(engine, &[rule(family, source)])?;
    let first: IpAddr = family.pick("198.18.0.20", "2001:db8:18::20").parse()?;
    let last: IpAddr = family.pick("198.18.0.23", "2001:db8:18::23").parse()?;
    for client in [&rig.hosts.one, &rig.hosts.two] {
        let tcp = Server::start(&rig.hosts.mail, &S2::mail(family, 8080).to_string(), echo)?;
        let udp = UdpEcho::start(&rig.hosts.dns, &S2::dns(family, 53).to_string())?;
        rig.observe(|_| {
            for _ in 0..10 {
                tcp_exchange(&mut connect(client, S2::mail(family, 8080))?, b"hello")?;
                udp_exchange(client, S2::dns(family, 53), b"query")?;
            }
            let all: BTreeSet<IpAddr> = tcp
                .peer_addresses()
                .into_iter()
                .chain(udp.peer_addresses())
                .collect();
            ensure!(all.len() == 1, "one client was seen as {all:?}");
            ensure!(
                all.iter().all(|address| (first..=last).contains(address)),
                "{all:?} is not of the pool"
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// One client socket has one port outside, whoever it talks to (RFC 4787 REQ-1). Netfilter does not promise it.
#[rstest]
fn one_socket_is_one_port(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(XDP, TC)] engine: Engine,
) -> Result<()> {
    let rig = Rig::s2(engine, &[rule(family, Source::Masquerade)])?;
    let servers = [
        UdpEcho::start(&rig.hosts.mail, &S2::mail(family, 3478).to_string())?,
        UdpEcho::start(&rig.hosts.dns, &S2::dns(family, 3478).to_string())?,
        UdpEcho::start(&rig.hosts.dns, &S2::dns(family, 3479).to_string())?,
    ];
    let targets = [
        S2::mail(family, 3478),
        S2::dns(family, 3478),
        S2::dns(family, 3479),
    ];
    rig.observe(|hosts| {
        let any = family.any(0);
        let client = hosts.one.run(|| std::net::UdpSocket::bind(&any))??;
        client.set_read_timeout(Some(PATIENCE))?;
        for target in targets {
            client.send_to(b"who am I", target)?;
            let (_, from) = client.recv_from(&mut [0; 64])?;
            ensure!(from == target, "{from} answered for {target}");
        }
        let seen: BTreeSet<SocketAddr> = servers.iter().flat_map(UdpEcho::peers).collect();
        ensure!(seen.len() == 1, "one socket was seen as {seen:?}");
        Ok(())
    })
}

/// Sends until the connection ends and says how.
fn end_of(stream: &mut TcpStream) -> Result<ErrorKind> {
    wait_for("the end of the connection", PATIENCE, || {
        stream
            .write_all(b"still there?")
            .and_then(|()| stream.read_exact(&mut [0; 12]))
            .err()
    })
    .map(|error| error.kind())
}

/// The address outside is replaced by another while a connection is open: that one ends at the client's next word
/// instead of hanging, and the next one has the new address at once.
#[rstest]
fn an_address_that_changes(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    let rig = Rig::s2(engine, &[rule(family, Source::Masquerade)])?;
    let server = Server::start(&rig.hosts.mail, &S2::mail(family, 8080).to_string(), echo)?;
    let target = S2::mail(family, 8080);
    rig.observe(|hosts| {
        let mut old = connect(&hosts.one, target)?;
        tcp_exchange(&mut old, b"before")?;
        hosts
            .gateway
            .sysctl("net/ipv4/conf/eth0/promote_secondaries", "1")?;
        hosts.gateway.ip(family.pick(
            "addr add 203.0.113.9/24 dev eth0\naddr del 203.0.113.5/24 dev eth0",
            "addr add 2001:db8:113::9/64 dev eth0 nodad\naddr del 2001:db8:113::5/64 dev eth0",
        ))?;
        let new: IpAddr = family.pick("203.0.113.9", "2001:db8:113::9").parse()?;
        // With netfilter it is the server that resets: the segment is picked up in the middle of the connection and
        // sent on from the new address.
        let end = end_of(&mut old)?;
        ensure!(end == ErrorKind::ConnectionReset, "{end:?}");
        // The kernel tells the daemon of the change a moment later.
        wait_for("a connection with the new address", PATIENCE, || {
            let mut stream = connect_within(&hosts.one, target, Duration::from_secs(1)).ok()?;
            tcp_exchange(&mut stream, b"after").ok()?;
            (server.peers().last()?.ip() == new).then_some(())
        })
        .with_context(|| format!("the server saw {:?}", server.peers()))
    })
}
