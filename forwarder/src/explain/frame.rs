//! Frames, written and read.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail};
use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, LaxNetSlice, LaxSlicedPacket, PacketBuilder,
    PacketBuilderStep, TcpHeader, TransportSlice,
};

use super::{ExplainQuery, TcpFlag};
use crate::{control::FlowProtocol, report::PacketReport};

/// The sender's MAC address: a locally administered one that stands for whoever it would be.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A VLAN tag: its EtherType and its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub protocol: u16,
    pub id: u16,
}

/// The frame that `query` describes, to the device's MAC address.
///
/// # Errors
/// Its addresses are of two families.
pub(crate) fn build(
    query: &ExplainQuery,
    to: [u8; 6],
    tag: Option<Tag>,
) -> anyhow::Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(SENDER, to);
    let (source, destination) = (query.source, query.destination);
    let ip = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), query.ttl),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), query.ttl),
        _ => bail!("source and destination are of two families: give both as IPv4 or both as IPv6"),
    };
    let payload = vec![0; usize::from(query.payload)];
    let mut frame = write(ip, query, &payload)?;
    if let Some(Tag { protocol, id }) = tag {
        let [tpid, tci] = [protocol, id].map(u16::to_be_bytes);
        frame.splice(12..12, tpid.into_iter().chain(tci));
    }
    Ok(frame)
}

fn write(
    ip: PacketBuilderStep<IpHeaders>,
    query: &ExplainQuery,
    payload: &[u8],
) -> anyhow::Result<Vec<u8>> {
    let (from, to) = (query.source.port(), query.destination.port());
    let mut frame = Vec::new();
    match query.protocol {
        FlowProtocol::Udp => ip.udp(from, to).write(&mut frame, payload)?,
        FlowProtocol::Tcp => {
            let has = |flag| query.flags.contains(&flag);
            let mut header = TcpHeader::new(from, to, 1, u16::MAX);
            header.syn = has(TcpFlag::Syn);
            header.ack = has(TcpFlag::Ack);
            header.fin = has(TcpFlag::Fin);
            header.rst = has(TcpFlag::Rst);
            header.psh = has(TcpFlag::Psh);
            ip.tcp_header(header).write(&mut frame, payload)?;
        }
        FlowProtocol::Icmp if query.source.is_ipv4() => {
            ip.icmpv4_echo_request(from, 1).write(&mut frame, payload)?;
        }
        FlowProtocol::Icmp => ip.icmpv6_echo_request(from, 1).write(&mut frame, payload)?,
    }
    Ok(frame)
}

/// A frame in words, and whom it is for.
///
/// # Errors
/// It is no IP packet.
pub(crate) fn read(frame: &[u8]) -> anyhow::Result<(PacketReport, [u8; 6])> {
    let mac = frame.first_chunk().context("a frame without a header")?;
    let packet = LaxSlicedPacket::from_ethernet(frame)?;
    let (source, destination, ttl, bytes) = match packet.net.context("no IP packet")? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                header.ttl(),
                u32::from(header.total_len()),
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                header.hop_limit(),
                u32::from(header.payload_length()) + 40,
            )
        }
        LaxNetSlice::Arp(_) => bail!("no IP packet"),
    };
    let transport = packet.transport.context("no transport header")?;
    let [from, to] = ports(&transport);
    let end = |address: IpAddr, port: Option<u16>| match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    };
    let report = PacketReport {
        protocol: protocol(&transport).to_owned(),
        source: end(source, from),
        destination: end(destination, to),
        flags: flags(&transport),
        ttl,
        bytes,
    };
    Ok((report, *mac))
}

fn protocol(transport: &TransportSlice) -> &'static str {
    match transport {
        TransportSlice::Tcp(_) => "tcp",
        TransportSlice::Udp(_) => "udp",
        _ => "icmp",
    }
}

/// Ports; an echo's identifier stands for one.
fn ports(transport: &TransportSlice) -> [Option<u16>; 2] {
    let echo = |request: IcmpEchoHeader| [Some(request.id), None];
    let reply = |reply: IcmpEchoHeader| [None, Some(reply.id)];
    match transport {
        TransportSlice::Tcp(tcp) => [Some(tcp.source_port()), Some(tcp.destination_port())],
        TransportSlice::Udp(udp) => [Some(udp.source_port()), Some(udp.destination_port())],
        TransportSlice::Icmpv4(icmp) => match icmp.icmp_type() {
            Icmpv4Type::EchoRequest(header) => echo(header),
            Icmpv4Type::EchoReply(header) => reply(header),
            _ => [None; 2],
        },
        TransportSlice::Icmpv6(icmp) => match icmp.icmp_type() {
            Icmpv6Type::EchoRequest(header) => echo(header),
            Icmpv6Type::EchoReply(header) => reply(header),
            _ => [None; 2],
        },
        TransportSlice::Igmp(_) => [None; 2],
    }
}

fn flags(transport: &TransportSlice) -> Vec<String> {
    let TransportSlice::Tcp(tcp) = transport else {
        return Vec::new();
    };
    let flags = [
        (tcp.syn(), "syn"),
        (tcp.ack(), "ack"),
        (tcp.fin(), "fin"),
        (tcp.rst(), "rst"),
        (tcp.psh(), "psh"),
    ];
    let set = flags.into_iter().filter(|(set, _)| *set);
    set.map(|(_, name)| name.to_owned()).collect()
}
