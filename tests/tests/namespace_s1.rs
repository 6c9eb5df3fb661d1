//! S1: the backend sees a fixed address, or one of a pool, and what happens when their ports run out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rstest::rstest;
use tests::netns::{Namespace, Prefix, Wire};
use tests::responder::{
    Server, UdpEcho, connect, connect_from, connect_within, echo, exchange, kind, pop3,
    pop3_client, tcp_exchange, udp_client, udp_client_from, udp_exchange,
};
use tests::scenario::engines::{IPTABLES, TC, XDP};
use tests::scenario::{Baseline, Engine, Family, GatewayConfig, Outcome, Rig, Rule, S0, Source};

/// Long enough for one retransmission of a SYN, after which a client that is kept out is certain to be.
const KEPT_OUT: Duration = Duration::from_millis(1500);

/// The gateway's further addresses, which make the pool.
const POOL: [u16; 4] = [20, 21, 22, 23];

/// How many clients there are beside the two that S0 has; four addresses cannot all be missed by so many.
const CLIENTS: u16 = 32;

fn of_pool(family: Family, last: u16) -> String {
    match family {
        Family::V4 => format!("203.0.113.{last}"),
        Family::V6 => format!("2001:db8:113::{last}"),
    }
}

fn client(family: Family, number: u16) -> Result<IpAddr> {
    let last = 100 + number;
    let address = match family {
        Family::V4 => format!("198.51.100.{last}"),
        Family::V6 => format!("2001:db8:51::{last}"),
    };
    Ok(address.parse()?)
}

fn pool(family: Family) -> Source {
    family.pick(
        Source::Pool("203.0.113.20-203.0.113.23"),
        Source::Pool("2001:db8:113::20-2001:db8:113::23"),
    )
}

fn fixed(family: Family) -> Source {
    family.pick(
        Source::Address("203.0.113.20"),
        Source::Address("2001:db8:113::20"),
    )
}

fn rules(family: Family, source: Source) -> Vec<Rule> {
    let [pop3, echo] = family.pick(
        [
            ["203.0.113.5:110", "195.228.245.1:110"],
            ["203.0.113.5:7", "195.228.245.1:7"],
        ],
        [
            ["[2001:db8:113::5]:110", "[2001:db8:195::1]:110"],
            ["[2001:db8:113::5]:7", "[2001:db8:195::1]:7"],
        ],
    );
    vec![
        Rule::preserve("pop3", pop3[0], pop3[1]).from(source),
        Rule::preserve("echo", echo[0], echo[1]).from(source),
        Rule::preserve("datagrams", echo[0], echo[1])
            .udp()
            .from(source),
    ]
}

/// S0 with the pool's addresses on the gateway.
fn rig(
    engine: Engine,
    family: Family,
    source: Source,
    source_ports: Option<&'static str>,
) -> Result<Rig<S0>> {
    let hosts = S0::build(&Prefix::unique(), Wire::CABLE)?;
    add(
        &hosts.gateway,
        POOL.map(|last| of_pool(family, last)),
        family,
    )?;
    let config = GatewayConfig {
        interfaces: vec![S0::DEVICE],
        rules: rules(family, source),
        source_ports,
        ..GatewayConfig::default()
    };
    Rig::start(engine, hosts, &config)
}

fn add(
    namespace: &Namespace,
    addresses: impl IntoIterator<Item = String>,
    family: Family,
) -> Result<()> {
    let suffix = family.pick("/24", "/64 nodad");
    let lines: String = addresses
        .into_iter()
        .map(|address| format!("addr add {address}{suffix} dev {}\n", S0::DEVICE))
        .collect();
    namespace.ip(&lines).map(drop)
}

fn at_server(family: Family, port: u16) -> String {
    S0::server(family, port).to_string()
}

fn one_address(engine: Engine, family: Family) -> Result<Outcome> {
    let rig = rig(engine, family, fixed(family), None)?;
    let mailbox = Server::start(&rig.hosts.server, &at_server(family, 110), pop3)?;
    let datagrams = UdpEcho::start(&rig.hosts.server, &at_server(family, 7))?;
    rig.observe(|hosts| {
        let fetched = pop3_client(connect(&hosts.client, S0::gateway(family, 110))?)?;
        udp_exchange(&hosts.client, S0::gateway(family, 7), b"hello")?;
        Ok(Outcome::default()
            .with("POP3", fetched)
            .with_debug("POP3 peers", mailbox.peer_addresses())
            .with_debug("UDP peers", datagrams.peer_addresses()))
    })
}

#[rstest]
fn the_backend_sees_a_fixed_address(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baseline; 2] = [Baseline::new(), Baseline::new()];
    family.among(&BASELINE).compare(engine, |engine| {
        let outcome = one_address(engine, family)?;
        let seen = format!("[{}]", of_pool(family, 20));
        assert_eq!(outcome.get("POP3 peers"), Some(&*seen));
        assert_eq!(outcome.get("UDP peers"), Some(&*seen));
        Ok(outcome)
    })
}

/// One client keeps its address of the pool, whatever it opens and with which protocol; many clients use all of it.
#[rstest]
fn a_client_keeps_its_address_of_the_pool(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC)] engine: Engine,
) -> Result<()> {
    let rig = rig(engine, family, pool(family), None)?;
    let clients = (0..CLIENTS)
        .map(|number| client(family, number))
        .collect::<Result<Vec<_>>>()?;
    add(
        &rig.hosts.client,
        clients.iter().map(IpAddr::to_string),
        family,
    )?;
    let tcp = Server::start(&rig.hosts.server, &at_server(family, 7), echo)?;
    let udp = UdpEcho::start(&rig.hosts.server, &at_server(family, 7))?;
    rig.observe(|hosts| {
        let target = S0::gateway(family, 7);
        let mut seen: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
        // In turns, so that whoever is served next in a row would not do.
        for _ in 0..4 {
            for &client in &clients {
                let mut stream = connect_from(&hosts.client, client, target, KEPT_OUT)?;
                tcp_exchange(&mut stream, b"hello")?;
                let socket = udp_client_from(&hosts.client, client, target)?;
                exchange(&socket, b"hello")?;
                let peers = [tcp.peers().last().copied(), udp.peers().last().copied()];
                let own = seen.entry(client).or_default();
                own.extend(peers.into_iter().flatten().map(|peer| peer.ip()));
            }
        }
        for (client, addresses) in &seen {
            ensure!(addresses.len() == 1, "{client} was seen as {addresses:?}");
        }
        let used: BTreeSet<IpAddr> = seen.into_values().flatten().collect();
        let all = POOL
            .map(|last| of_pool(family, last).parse())
            .into_iter()
            .collect::<Result<BTreeSet<IpAddr>, _>>()?;
        ensure!(used == all, "{CLIENTS} clients were seen as {used:?}");
        Ok(())
    })
}

/// Four ports of one address, all in use.
struct Exhausted {
    rig: Rig<S0>,
    _servers: (Server, UdpEcho),
    _open: Vec<TcpStream>,
}

impl Exhausted {
    const PORTS: &'static str = "20000-20003";

    fn build(engine: Engine, family: Family) -> Result<Self> {
        let rig = rig(engine, family, fixed(family), Some(Self::PORTS))?;
        let server = Server::start(&rig.hosts.server, &at_server(family, 7), echo)?;
        let datagrams = UdpEcho::start(&rig.hosts.server, &at_server(family, 7))?;
        let target = S0::gateway(family, 7);
        let open = rig.observe(|hosts| {
            let mut open = Vec::new();
            for number in 1..=4 {
                let mut stream = connect(&hosts.client, target)
                    .with_context(|| format!("connection {number} of four"))?;
                tcp_exchange(&mut stream, b"hello")?;
                udp_exchange(&hosts.client, target, b"hello")
                    .with_context(|| format!("datagram {number} of four"))?;
                open.push(stream);
            }
            for peers in [server.peers(), datagrams.peers()] {
                let ports: BTreeSet<u16> = peers.iter().map(SocketAddr::port).collect();
                ensure!(ports == (20000..=20003).collect(), "{ports:?}");
            }
            Ok(open)
        })?;
        Ok(Self {
            rig,
            _servers: (server, datagrams),
            _open: open,
        })
    }
}

/// What iptables makes of it: nothing is heard, neither by the client nor by the server.
#[rstest]
fn netfilter_is_silent_when_ports_run_out(
    #[values(Family::V4, Family::V6)] family: Family,
) -> Result<()> {
    let exhausted = Exhausted::build(IPTABLES, family)?;
    exhausted.rig.observe(|hosts| {
        let error = connect_within(&hosts.client, S0::gateway(family, 7), KEPT_OUT)
            .expect_err("there is no port for a fifth");
        ensure!(kind(&error) == "TimedOut", "{error:#}");
        Ok(())
    })
}

/// The fifth connection is refused at once, and the fifth datagram is answered with "administratively prohibited".
#[rstest]
fn a_client_is_told_when_ports_run_out(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(XDP, TC)] engine: Engine,
) -> Result<()> {
    let mut exhausted = Exhausted::build(engine, family)?;
    let target = S0::gateway(family, 7);
    exhausted.rig.observe(|hosts| {
        let before = hosts.client.counters()?;
        let error = connect(&hosts.client, target).expect_err("there is no port for a fifth");
        ensure!(kind(&error) == "ConnectionRefused", "{error:#}");
        let repeated = hosts.client.counters()?.since(&before, "Tcp.RetransSegs");
        ensure!(repeated == 0, "the client had to ask {repeated} times more");

        let error = exchange(&udp_client(&hosts.client, target)?, b"hello")
            .expect_err("there is no port for a fifth");
        // ICMP type 3 with code 9, 10 or 13; ICMPv6 type 1 with code 1.
        let prohibited = family.pick(
            &[libc::EHOSTUNREACH, libc::ENETUNREACH][..],
            &[libc::EACCES],
        );
        let number = error.raw_os_error().context("not an error of the system")?;
        ensure!(prohibited.contains(&number), "{error}");
        Ok(())
    })?;
    let forwarder = exhausted.rig.gateway.forwarder().context("no forwarder")?;
    let counted = forwarder.dropped("ports-exhausted")?;
    assert!(counted >= 2, "{counted} packets were counted");
    Ok(())
}
