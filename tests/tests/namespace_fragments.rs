//! Fragments. iptables puts packets together before it translates them, so what it delivers is what has to be
//! delivered, in whatever order the parts come.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use rstest::rstest;
use tests::netns::Namespace;
use tests::packet::{Extension, Packet};
use tests::probe::Capture;
use tests::responder::PATIENCE;
use tests::scenario::engines::{IPTABLES, TC, XDP, XDP_GENERIC};
use tests::scenario::{Baseline, Baselines, Chain, Engine, Family, Outcome, Rig, Rule, Source};

/// The listener and the backend have this port.
const PORT: u16 = 7;

/// The clients have this one and the one after it: two flows.
const CLIENT_PORT: u16 = 40000;

/// Room for two of the largest datagrams in a socket.
const BUFFER: usize = 1 << 22;

/// What a fragment of a full frame carries, in both families.
const FULL: usize = 1448;

fn rule(family: Family, source: Source) -> Rule {
    let v4 = Rule::masquerade("echo", "203.0.113.5:7", "10.2.0.2:7");
    let v6 = Rule::masquerade("echo", "[2001:db8:113::5]:7", "[2001:db8:b::2]:7");
    family.pick(v4, v6).from(source).udp()
}

/// In which order the fragments of two datagrams are sent.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// As they are cut.
    Straight,
    /// The first one last.
    Reversed,
    /// The last one first, then as they are cut.
    LastFirst,
    /// One of this, one of that.
    Interleaved,
    /// Each twice.
    Doubled,
}

impl Order {
    fn arrange(self, datagrams: [Vec<Packet>; 2]) -> Vec<Packet> {
        let each = |arrange: fn(&mut Vec<Packet>)| {
            let mut datagrams = datagrams.clone();
            datagrams.iter_mut().for_each(arrange);
            datagrams.concat()
        };
        match self {
            Self::Straight => datagrams.concat(),
            Self::Reversed => each(|fragments| fragments.reverse()),
            Self::LastFirst => each(|fragments| fragments.rotate_right(1)),
            Self::Doubled => datagrams
                .concat()
                .into_iter()
                .flat_map(|it| [it.clone(), it])
                .collect(),
            Self::Interleaved => {
                let [one, other] = datagrams;
                one.into_iter()
                    .zip(other)
                    .flat_map(<[Packet; 2]>::from)
                    .collect()
            }
        }
    }
}

/// The bytes of a datagram, different for each flow and in each part.
fn payload(flow: u8, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at / 251 + at * 7) as u8).collect();
    bytes[0] = flow;
    bytes
}

/// A host that sends past its stack and receives by its sockets.
struct Host<'a> {
    namespace: &'a Namespace,
    /// Its own MAC address and that of its next hop.
    macs: [[u8; 6]; 2],
    sockets: Vec<UdpSocket>,
}

impl<'a> Host<'a> {
    fn client(hosts: &'a Chain, family: Family) -> Result<Self> {
        let ports = [CLIENT_PORT, CLIENT_PORT + 1];
        Self::bind(
            &hosts.client,
            [Chain::CLIENT_MAC, Chain::WAN_MAC],
            &ports.map(|port| SocketAddr::new(Chain::client(family), port)),
        )
    }

    fn server(hosts: &'a Chain, family: Family) -> Result<Self> {
        Self::bind(
            &hosts.server,
            [Chain::SERVER_MAC, Chain::DOWN_MAC],
            &[Chain::server(family, PORT)],
        )
    }

    fn bind(namespace: &'a Namespace, macs: [[u8; 6]; 2], at: &[SocketAddr]) -> Result<Self> {
        let bind = |at: &SocketAddr| {
            let socket = namespace.run(|| UdpSocket::bind(at))??;
            socket.set_read_timeout(Some(PATIENCE))?;
            // Each fragment takes a page of it, however short.
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
            Ok(socket)
        };
        Ok(Self {
            namespace,
            macs,
            sockets: at.iter().map(bind).collect::<Result<_>>()?,
        })
    }

    fn send(&self, packets: Vec<Packet>) -> Result<()> {
        let [own, next] = self.macs;
        let frames = packets
            .into_iter()
            .map(|packet| packet.with_macs(own, next).to_bytes());
        self.namespace
            .send_frames("eth0", &frames.collect::<Vec<_>>())
    }

    /// The next datagram of one of the sockets, and where it came from.
    fn receive(&self, socket: usize) -> Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 1 << 16];
        let (length, peer) = self.sockets[socket]
            .recv_from(&mut buffer)
            .context("no datagram came")?;
        buffer.truncate(length);
        Ok((buffer, peer))
    }
}

fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Packet {
    Packet::udp(&source.to_string(), &destination.to_string()).with_payload(payload)
}

/// Sends two datagrams in parts of `size` bytes and two back, and returns whom the server saw.
fn converse(
    [client, server]: &[Host<'_>; 2],
    family: Family,
    [length, size]: [usize; 2],
    order: Order,
) -> Result<Vec<SocketAddr>> {
    let cut = |from, to, flow: u8| {
        // An identification of its own: what is left of one datagram must not be put together with the next.
        let id = u32::try_from(2 * length).expect("a short datagram") + u32::from(flow);
        udp(from, to, &payload(flow, length)).fragments(id, size)
    };
    let own = |flow: u8| SocketAddr::new(Chain::client(family), CLIENT_PORT + u16::from(flow));
    let listener = Chain::gateway(family, PORT);
    client.send(order.arrange([0, 1].map(|flow| cut(own(flow), listener, flow))))?;
    let mut came = [server.receive(0)?, server.receive(0)?];
    came.sort_unstable_by_key(|(bytes, _)| bytes[0]);
    for (flow, (bytes, _)) in (0..).zip(&came) {
        ensure!(*bytes == payload(flow, length), "flow {flow}: other bytes");
    }
    let peers = came.map(|(_, peer)| peer);
    let at_server = Chain::server(family, PORT);
    let replies = [0, 1].map(|flow: u8| cut(at_server, peers[usize::from(flow)], flow));
    server.send(order.arrange(replies))?;
    for flow in [0, 1] {
        let (bytes, peer) = client.receive(flow.into())?;
        ensure!(
            bytes == payload(flow, length) && peer == listener,
            "flow {flow}: {} other bytes came back from {peer}",
            bytes.len()
        );
    }
    Ok(peers.to_vec())
}

fn delivered(engine: Engine, family: Family, order: Order) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for source in [Source::Preserve, Source::Masquerade] {
        let rig = Rig::chain(engine, &[rule(family, source)])?;
        outcome = rig.observe(|hosts| {
            let ends = [Host::client(hosts, family)?, Host::server(hosts, family)?];
            let mut outcome = outcome.clone();
            // 60000 bytes are nearly as many as UDP takes; in the smallest parts there are, ports are all the first has.
            for [length, size] in [[4000, FULL], [60000, FULL], [64, 8]] {
                let what = format!("{source:?}, {length} bytes in parts of {size}");
                let peers = converse(&ends, family, [length, size], order);
                let peers = peers.with_context(|| what.clone())?;
                // The gateway chooses the ports.
                let peers: Vec<_> = peers.iter().map(SocketAddr::ip).collect();
                outcome = outcome.with_debug(&what, peers);
            }
            Ok(outcome)
        })?;
    }
    Ok(outcome)
}

#[rstest]
fn fragments_are_delivered_in_order(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| delivered(engine, family, Order::Straight))
}

#[rstest]
fn fragments_are_delivered_in_reverse(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| delivered(engine, family, Order::Reversed))
}

#[rstest]
fn fragments_are_delivered_the_last_one_first(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| delivered(engine, family, Order::LastFirst))
}

#[rstest]
fn fragments_of_two_flows_are_told_apart(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE.of(family).compare(engine, |engine| {
        delivered(engine, family, Order::Interleaved)
    })
}

#[rstest]
fn fragments_that_come_twice_are_delivered_once(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baselines = Baselines::new();
    BASELINE
        .of(family)
        .compare(engine, |engine| delivered(engine, family, Order::Doubled))
}

/// Fragments that make no packet, and whether any of them may come out of the gateway at all.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// The second begins before the first ends.
    Overlap,
    /// The second has part of the first, and other bytes there.
    Contradiction,
    /// The last ends behind the largest packet there can be.
    Oversized,
    /// The one with the ports never comes.
    Headless,
}

impl Bad {
    fn fragments(self, whole: &Packet) -> Vec<Packet> {
        let parts = whole.fragments(9, FULL);
        // Eight bytes of the first, and the rest in two.
        let (second, end) = (FULL - 8..2 * FULL - 8, 8 + whole.payload.len());
        let mut overlapping = vec![
            parts[0].clone(),
            whole.fragment(9, second.clone()),
            whole.fragment(9, second.end..end),
        ];
        match self {
            Self::Overlap => overlapping,
            Self::Contradiction => {
                overlapping[1].payload[..8].fill(0xff);
                overlapping
            }
            // 8189 units of eight bytes leave 23 bytes.
            Self::Oversized => vec![
                parts[0].clone(),
                parts[1].clone(),
                parts[2].clone().with_fragment(8189, false),
            ],
            Self::Headless => parts[1..].to_vec(),
        }
    }

    /// What the forwarder counts them as.
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Overlap | Self::Contradiction => Some("fragment-overlap"),
            Self::Oversized => Some("fragment-oversized"),
            // It only waits.
            Self::Headless => None,
        }
    }
}

fn refused(engine: Engine, family: Family, bad: Bad) -> Result<Outcome> {
    let mut rig = Rig::chain(engine, &[rule(family, Source::Masquerade)])?;
    let outcome = rig.observe(|hosts| {
        let (client, server) = (Host::client(hosts, family)?, Host::server(hosts, family)?);
        let capture = Capture::start(&hosts.server, "eth0")?;
        let own = |port| SocketAddr::new(Chain::client(family), port);
        let listener = Chain::gateway(family, PORT);
        let whole = udp(own(CLIENT_PORT), listener, &payload(0, 4000));
        client.send(bad.fragments(&whole))?;
        // What comes after them, of the same flow and of another, passes.
        client.send(vec![
            udp(own(CLIENT_PORT), listener, b"after"),
            udp(own(CLIENT_PORT + 1), listener, b"another"),
        ])?;
        let heard = [server.receive(0)?.0, server.receive(0)?.0];
        let heard =
            heard.map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(9)]).into_owned());
        let packets = capture.packets()?;
        let fragments = packets.iter().filter(|(it, _)| it.ip.fragment().is_some());
        if matches!(bad, Bad::Headless) {
            ensure!(fragments.count() == 0, "fragments came out of the gateway");
        }
        Ok(Outcome::default().with_debug("heard", heard))
    })?;
    if let (Some(forwarder), Some(reason)) = (rig.gateway.forwarder(), bad.reason()) {
        let counted = forwarder.dropped(reason)?;
        ensure!(counted > 0, "nothing was counted as {reason}");
    }
    Ok(outcome)
}

#[rstest]
fn fragments_that_make_no_packet_are_not_delivered(
    #[values(Family::V4, Family::V6)] family: Family,
    #[values(Bad::Overlap, Bad::Contradiction, Bad::Oversized, Bad::Headless)] bad: Bad,
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: [Baselines; 4] = [const { Baselines::new() }; 4];
    BASELINE[bad as usize].of(family).compare(engine, |engine| {
        let outcome = refused(engine, family, bad)?;
        assert_eq!(outcome.get("heard"), Some(r#"["after", "another"]"#));
        Ok(outcome)
    })
}

/// Headers that stand between an IPv6 header and the ports of a whole packet.
fn extended(engine: Engine) -> Result<Outcome> {
    let family = Family::V6;
    let rig = Rig::chain(engine, &[rule(family, Source::Masquerade)])?;
    rig.observe(|hosts| {
        let (client, server) = (Host::client(hosts, family)?, Host::server(hosts, family)?);
        let own = SocketAddr::new(Chain::client(family), CLIENT_PORT);
        let listener = Chain::gateway(family, PORT);
        let atomic = Extension::Fragment {
            offset: 0,
            more: false,
            id: 9,
        };
        let mut outcome = Outcome::default();
        for (name, extensions) in [
            ("hop-by-hop", vec![Extension::hop_by_hop()]),
            ("destination", vec![Extension::destination()]),
            ("atomic fragment", vec![atomic]),
            (
                "several",
                vec![Extension::hop_by_hop(), Extension::destination()],
            ),
        ] {
            let plain = udp(own, listener, name.as_bytes());
            let packet = extensions.into_iter().fold(plain, Packet::with_extension);
            client.send(vec![packet])?;
            let (bytes, peer) = server.receive(0).with_context(|| name.to_owned())?;
            ensure!(bytes == name.as_bytes(), "{name}: other bytes");
            outcome = outcome.with(name, peer.ip());
            // And back, from whatever port it is.
            let reply = udp(Chain::server(family, PORT), peer, b"reply");
            server.send(vec![reply.with_extension(Extension::destination())])?;
            ensure!(client.receive(0)?.0 == b"reply", "{name}: another reply");
        }
        Ok(outcome)
    })
}

#[rstest]
fn extension_headers_are_passed_over(
    #[values(IPTABLES, XDP, TC, XDP_GENERIC)] engine: Engine,
) -> Result<()> {
    static BASELINE: Baseline = Baseline::new();
    BASELINE.compare(engine, extended)
}
