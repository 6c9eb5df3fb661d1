//! Bytes to [`Packet`].

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, Ethernet2Header, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};

use super::checksum::{self, Addresses, Fault};
use super::{Checksum, Ethernet, Icmp, Ip, Ipv4, Ipv6, Packet, Tcp, Transport, Udp, Vlan};

/// Why bytes are not a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

fn bad(layer: &str, reason: impl std::fmt::Display) -> DecodeError {
    DecodeError(format!("{layer}: {reason}"))
}

/// Decodes an Ethernet frame.
///
/// # Errors
/// If a header is cut short, contradicts the length of the frame, or the frame is not IP.
pub fn decode(frame: &[u8]) -> Result<Packet, DecodeError> {
    let (header, mut rest) =
        Ethernet2Header::from_slice(frame).map_err(|error| bad("Ethernet", error))?;
    let mut ether_type = header.ether_type;
    let mut vlans = Vec::new();
    while matches!(
        ether_type,
        EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING
    ) {
        let (tag, inner) = rest
            .split_at_checked(4)
            .ok_or_else(|| bad("VLAN", "cut short"))?;
        vlans.push(Vlan {
            protocol: ether_type.0,
            control: u16::from_be_bytes([tag[0], tag[1]]),
        });
        ether_type = EtherType(u16::from_be_bytes([tag[2], tag[3]]));
        rest = inner;
    }
    if !matches!(ether_type, EtherType::IPV4 | EtherType::IPV6) {
        return Err(bad(
            "Ethernet",
            format!("EtherType {:#06x} is not IP", ether_type.0),
        ));
    }
    let mut packet = decode_network(rest)?;
    packet.ethernet = Ethernet {
        destination: header.destination,
        source: header.source,
        vlans,
    };
    Ok(packet)
}

/// Decodes from the IP header on, as an ICMP error quotes a packet or a tap device delivers one. The link layer of
/// the result is all zero.
///
/// # Errors
/// As [`decode`].
pub fn decode_network(bytes: &[u8]) -> Result<Packet, DecodeError> {
    let (ip, addresses, protocol, segment, trailer) = match bytes.first().map(|first| first >> 4) {
        Some(4) => decode_ipv4(bytes)?,
        Some(6) => decode_ipv6(bytes)?,
        _ => return Err(bad("IP", "version is neither 4 nor 6")),
    };
    let later_fragment = matches!(&ip, Ip::V4(ip) if ip.fragment_offset != 0);
    let (transport, payload) = if later_fragment {
        (Transport::Other(protocol), segment)
    } else {
        decode_transport(addresses, protocol, segment)?
    };
    Ok(Packet {
        ethernet: Ethernet {
            destination: [0; 6],
            source: [0; 6],
            vlans: Vec::new(),
        },
        ip,
        transport,
        payload: payload.to_vec(),
        trailer: trailer.to_vec(),
    })
}

/// Header, addresses, protocol, what the IP length covers, and what is left of the frame.
type Network<'a> = (Ip, Addresses, u8, &'a [u8], &'a [u8]);

fn decode_ipv4(bytes: &[u8]) -> Result<Network<'_>, DecodeError> {
    let (header, rest) = Ipv4Header::from_slice(bytes).map_err(|error| bad("IPv4", error))?;
    let length = header.payload_len().map_err(|error| bad("IPv4", error))?;
    let (segment, trailer) = split(rest, length.into(), "IPv4")?;
    let checked = checksum::check_ipv4_header(&bytes[..header.header_len()]);
    let (source, destination) = (
        Ipv4Addr::from(header.source),
        Ipv4Addr::from(header.destination),
    );
    let ip = Ipv4 {
        tos: header.dscp.value() << 2 | header.ecn.value(),
        id: header.identification,
        dont_fragment: header.dont_fragment,
        more_fragments: header.more_fragments,
        fragment_offset: header.fragment_offset.value(),
        ttl: header.time_to_live,
        source,
        destination,
        options: header.options.as_slice().to_vec(),
        checksum: verdict(&checked),
    };
    let addresses = Addresses::V4(source, destination);
    Ok((Ip::V4(ip), addresses, header.protocol.0, segment, trailer))
}

fn decode_ipv6(bytes: &[u8]) -> Result<Network<'_>, DecodeError> {
    let (header, rest) = Ipv6Header::from_slice(bytes).map_err(|error| bad("IPv6", error))?;
    let (segment, trailer) = split(rest, header.payload_length.into(), "IPv6")?;
    let (source, destination) = (
        Ipv6Addr::from(header.source),
        Ipv6Addr::from(header.destination),
    );
    let ip = Ipv6 {
        traffic_class: header.traffic_class,
        flow_label: header.flow_label.value(),
        hop_limit: header.hop_limit,
        source,
        destination,
    };
    let addresses = Addresses::V6(source, destination);
    Ok((
        Ip::V6(ip),
        addresses,
        header.next_header.0,
        segment,
        trailer,
    ))
}

fn split<'a>(
    bytes: &'a [u8],
    length: usize,
    layer: &str,
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    bytes.split_at_checked(length).ok_or_else(|| {
        let present = bytes.len();
        bad(
            layer,
            format!("header announces {length} bytes, {present} follow"),
        )
    })
}

fn decode_transport(
    addresses: Addresses,
    protocol: u8,
    segment: &[u8],
) -> Result<(Transport, &[u8]), DecodeError> {
    let checked = checksum::check_segment(addresses, protocol, segment);
    match (protocol, addresses) {
        (6, _) => decode_tcp(segment, &checked),
        (17, _) => decode_udp(segment, &checked),
        (1, Addresses::V4(..)) | (58, Addresses::V6(..)) => {
            let (header, payload) = split(segment, 8, "ICMP")?;
            let icmp = Icmp {
                kind: header[0],
                code: header[1],
                rest: [header[4], header[5], header[6], header[7]],
                checksum: verdict(&checked),
            };
            Ok((Transport::Icmp(icmp), payload))
        }
        _ => Ok((Transport::Other(protocol), segment)),
    }
}

fn decode_tcp<'a>(
    segment: &'a [u8],
    checked: &Result<(), Fault>,
) -> Result<(Transport, &'a [u8]), DecodeError> {
    let (header, payload) = TcpHeader::from_slice(segment).map_err(|error| bad("TCP", error))?;
    let tcp = Tcp {
        source_port: header.source_port,
        destination_port: header.destination_port,
        sequence: header.sequence_number,
        acknowledgment: header.acknowledgment_number,
        flags: segment[13],
        window: header.window_size,
        urgent: header.urgent_pointer,
        options: header.options.as_slice().to_vec(),
        checksum: verdict(checked),
    };
    Ok((Transport::Tcp(tcp), payload))
}

fn decode_udp<'a>(
    segment: &'a [u8],
    checked: &Result<(), Fault>,
) -> Result<(Transport, &'a [u8]), DecodeError> {
    let (header, payload) = UdpHeader::from_slice(segment).map_err(|error| bad("UDP", error))?;
    if usize::from(header.length) != segment.len() {
        let (stated, present) = (header.length, segment.len());
        return Err(bad(
            "UDP",
            format!("length {stated}, the IP header says {present}"),
        ));
    }
    let udp = Udp {
        source_port: header.source_port,
        destination_port: header.destination_port,
        checksum: match header.checksum {
            0 => Checksum::Absent,
            _ => verdict(checked),
        },
    };
    Ok((Transport::Udp(udp), payload))
}

fn verdict(checked: &Result<(), Fault>) -> Checksum {
    match checked {
        Ok(()) => Checksum::Correct,
        Err(fault) => Checksum::Wire(fault.found),
    }
}
