//! Bytes to [`Packet`].

use etherparse::{EtherType, Ethernet2Header, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};

use super::checksum::{self, Fault};
use super::{
    Checksum, Ethernet, Extension, Icmp, Ip, Ipv4, Ipv6, Packet, Tcp, Transport, Udp, Vlan,
};

/// Why bytes are not a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(String);

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

pub(super) fn bad(layer: &str, reason: impl std::fmt::Display) -> DecodeError {
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
    let Network {
        ip,
        protocol,
        segment,
        missing,
        trailer,
    } = network(bytes)?;
    if missing > 0 {
        let present = segment.len();
        return Err(bad(
            "IP",
            format!("{missing} bytes are missing after {present}"),
        ));
    }
    let (transport, payload) = match ip.fragment() {
        None => decode_transport(&ip, protocol, segment)?,
        Some((0, _)) => decode_first(&ip, protocol, segment),
        Some(_) => (Transport::Other(protocol), segment),
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

/// A network layer, and what is there of what it carries.
pub(super) struct Network<'a> {
    pub ip: Ip,
    /// Behind all extension headers.
    pub protocol: u8,
    /// What the IP length covers, behind all headers, and is there.
    pub segment: &'a [u8],
    /// What the IP length covers and is not there.
    pub missing: usize,
    /// What the IP length does not cover.
    pub trailer: &'a [u8],
}

/// Decodes the network layer of a packet that may have been cut behind it.
pub(super) fn network(bytes: &[u8]) -> Result<Network<'_>, DecodeError> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => decode_ipv4(bytes),
        Some(6) => decode_ipv6(bytes),
        _ => Err(bad("IP", "version is neither 4 nor 6")),
    }
}

fn decode_ipv4(bytes: &[u8]) -> Result<Network<'_>, DecodeError> {
    let (header, rest) = Ipv4Header::from_slice(bytes).map_err(|error| bad("IPv4", error))?;
    let length = header.payload_len().map_err(|error| bad("IPv4", error))?;
    let (segment, missing, trailer) = take(rest, length.into());
    let checked = checksum::check_ipv4_header(&bytes[..header.header_len()]);
    let ip = Ipv4 {
        tos: header.dscp.value() << 2 | header.ecn.value(),
        id: header.identification,
        dont_fragment: header.dont_fragment,
        more_fragments: header.more_fragments,
        fragment_offset: header.fragment_offset.value(),
        ttl: header.time_to_live,
        source: header.source.into(),
        destination: header.destination.into(),
        options: header.options.as_slice().to_vec(),
        checksum: verdict(&checked),
    };
    Ok(Network {
        ip: Ip::V4(ip),
        protocol: header.protocol.0,
        segment,
        missing,
        trailer,
    })
}

fn decode_ipv6(bytes: &[u8]) -> Result<Network<'_>, DecodeError> {
    let (header, rest) = Ipv6Header::from_slice(bytes).map_err(|error| bad("IPv6", error))?;
    let (mut segment, missing, trailer) = take(rest, header.payload_length.into());
    let mut protocol = header.next_header.0;
    let mut extensions = Vec::new();
    let later = |extension: &Extension| matches!(extension, Extension::Fragment { offset, .. } if *offset > 0);
    // What a later fragment begins with is the middle of something, whatever its header announces.
    while !extensions.last().is_some_and(later)
        && let Some((extension, rest, next)) = Extension::decode(protocol, segment)?
    {
        extensions.push(extension);
        (segment, protocol) = (rest, next);
    }
    let ip = Ipv6 {
        traffic_class: header.traffic_class,
        flow_label: header.flow_label.value(),
        hop_limit: header.hop_limit,
        source: header.source.into(),
        destination: header.destination.into(),
        extensions,
    };
    Ok(Network {
        ip: Ip::V6(ip),
        protocol,
        segment,
        missing,
        trailer,
    })
}

/// The first `length` bytes or what there is of them, how many are missing, and the rest.
fn take(bytes: &[u8], length: usize) -> (&[u8], usize, &[u8]) {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    (taken, length - taken.len(), rest)
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

/// A transport header at the beginning of a first fragment, whose checksum and length are the whole packet's.
fn decode_first<'a>(ip: &Ip, protocol: u8, segment: &'a [u8]) -> (Transport, &'a [u8]) {
    let word = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
    let whole = Checksum::Wire;
    let found = match (protocol, ip) {
        (6, _) => decode_tcp(segment, whole).ok(),
        (17, _) if segment.len() >= 8 => {
            let udp = Udp {
                source_port: word(0),
                destination_port: word(2),
                length: Some(word(4)),
                checksum: udp_checksum(word(6), whole(word(6))),
            };
            Some((Transport::Udp(udp), &segment[8..]))
        }
        (1, Ip::V4(_)) | (58, Ip::V6(_)) => decode_icmp(segment, whole).ok(),
        _ => None,
    };
    found.unwrap_or((Transport::Other(protocol), segment))
}

fn decode_transport<'a>(
    ip: &Ip,
    protocol: u8,
    segment: &'a [u8],
) -> Result<(Transport, &'a [u8]), DecodeError> {
    let checked = checksum::check_segment(ip.addresses(), protocol, segment);
    let judge = |_| verdict(&checked);
    match (protocol, ip) {
        (6, _) => decode_tcp(segment, judge),
        (17, _) => decode_udp(segment, judge),
        (1, Ip::V4(_)) | (58, Ip::V6(_)) => decode_icmp(segment, judge),
        _ => Ok((Transport::Other(protocol), segment)),
    }
}

fn decode_icmp(
    segment: &[u8],
    judge: impl FnOnce(u16) -> Checksum,
) -> Result<(Transport, &[u8]), DecodeError> {
    let (header, payload) = split(segment, 8, "ICMP")?;
    let icmp = Icmp {
        kind: header[0],
        code: header[1],
        rest: [header[4], header[5], header[6], header[7]],
        checksum: judge(u16::from_be_bytes([header[2], header[3]])),
    };
    Ok((Transport::Icmp(icmp), payload))
}

fn decode_tcp(
    segment: &[u8],
    judge: impl FnOnce(u16) -> Checksum,
) -> Result<(Transport, &[u8]), DecodeError> {
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
        checksum: judge(header.checksum),
    };
    Ok((Transport::Tcp(tcp), payload))
}

fn decode_udp(
    segment: &[u8],
    judge: impl FnOnce(u16) -> Checksum,
) -> Result<(Transport, &[u8]), DecodeError> {
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
        length: None,
        checksum: udp_checksum(header.checksum, judge(header.checksum)),
    };
    Ok((Transport::Udp(udp), payload))
}

fn udp_checksum(field: u16, judged: Checksum) -> Checksum {
    match field {
        0 => Checksum::Absent,
        _ => judged,
    }
}

pub(super) fn verdict(checked: &Result<(), Fault>) -> Checksum {
    match checked {
        Ok(()) => Checksum::Correct,
        Err(fault) => Checksum::Wire(fault.found),
    }
}
