//! The headers a [`Packet`](super::Packet) is made of. Integers are in host order; the wire's order is the codec's
//! business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Extension;
use super::checksum::Addresses;

/// TCP flag bits as byte 13 of the header has them.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// First segment of a connection.
    pub const SYN: u8 = 0x02;
    /// Connection refused or aborted.
    pub const RST: u8 = 0x04;
    /// Deliver at once.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo, RFC 3168.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced, RFC 3168.
    pub const CWR: u8 = 0x80;
}

/// A checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Whatever is right for the bytes it covers.
    Correct,
    /// Zero on the wire: the sender of a UDP datagram computed none (RFC 768).
    Absent,
    /// This value on the wire, right or (after decoding: always) wrong.
    Wire(u16),
}

/// Link layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// VLAN tags, outermost first.
    pub vlans: Vec<Vlan>,
}

/// One VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Tag protocol: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub protocol: u16,
    /// Priority, drop eligibility and identifier as one 16-bit field.
    pub control: u16,
}

impl Vlan {
    /// An 802.1Q tag of priority 0.
    #[must_use]
    pub fn customer(id: u16) -> Self {
        Self {
            protocol: 0x8100,
            control: id & 0x0fff,
        }
    }
}

/// Network layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ip {
    /// RFC 791.
    V4(Ipv4),
    /// RFC 8200.
    V6(Ipv6),
}

impl Ip {
    /// Source address.
    #[must_use]
    pub fn source(&self) -> IpAddr {
        match self {
            Self::V4(ip) => ip.source.into(),
            Self::V6(ip) => ip.source.into(),
        }
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        match self {
            Self::V4(ip) => ip.destination.into(),
            Self::V6(ip) => ip.destination.into(),
        }
    }

    /// Bytes of the header with its options, or with its extension headers.
    #[must_use]
    pub fn header_len(&self) -> usize {
        match self {
            Self::V4(ip) => 20 + ip.options.len(),
            Self::V6(ip) => 40 + ip.extensions.iter().map(Extension::len).sum::<usize>(),
        }
    }

    /// TTL or hop limit.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        match self {
            Self::V4(ip) => ip.ttl,
            Self::V6(ip) => ip.hop_limit,
        }
    }

    /// Offset in units of 8 bytes and "more fragments", if it is a fragment and not a whole packet.
    #[must_use]
    pub fn fragment(&self) -> Option<(u16, bool)> {
        let found = match self {
            Self::V4(ip) => (ip.fragment_offset, ip.more_fragments),
            Self::V6(ip) => ip.extensions.iter().find_map(|extension| match extension {
                Extension::Fragment { offset, more, .. } => Some((*offset, *more)),
                _ => None,
            })?,
        };
        (found != (0, false)).then_some(found)
    }

    /// What a pseudo header has.
    pub(super) fn addresses(&self) -> Addresses {
        match self {
            Self::V4(ip) => Addresses::V4(ip.source, ip.destination),
            Self::V6(ip) => Addresses::V6(ip.source, ip.final_destination()),
        }
    }

    pub(super) fn set_source(&mut self, address: IpAddr) {
        match (self, address) {
            (Self::V4(ip), IpAddr::V4(address)) => ip.source = address,
            (Self::V6(ip), IpAddr::V6(address)) => ip.source = address,
            _ => panic!("{address} is of the other family"),
        }
    }

    pub(super) fn set_destination(&mut self, address: IpAddr) {
        match (self, address) {
            (Self::V4(ip), IpAddr::V4(address)) => ip.destination = address,
            (Self::V6(ip), IpAddr::V6(address)) => ip.destination = address,
            _ => panic!("{address} is of the other family"),
        }
    }
}

/// IPv4 header; lengths and protocol follow from the rest of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// DF.
    pub dont_fragment: bool,
    /// MF.
    pub more_fragments: bool,
    /// In units of 8 bytes.
    pub fragment_offset: u16,
    /// Hops left.
    pub ttl: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Options, a multiple of four bytes, 40 at most.
    pub options: Vec<u8>,
    /// Header checksum.
    pub checksum: Checksum,
}

impl Ipv4 {
    pub(super) fn new(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self {
            tos: 0,
            id: 0x1234,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 64,
            source,
            destination,
            options: Vec::new(),
            checksum: Checksum::Correct,
        }
    }
}

/// IPv6 header; length and next headers follow from the rest of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// Hops left.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address: the next one, where there is a routing header.
    pub destination: Ipv6Addr,
    /// Extension headers, in order.
    pub extensions: Vec<Extension>,
}

impl Ipv6 {
    pub(super) fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self {
            traffic_class: 0,
            flow_label: 0x12345,
            hop_limit: 64,
            source,
            destination,
            extensions: Vec::new(),
        }
    }

    /// The destination behind all routing headers.
    pub(super) fn final_destination(&self) -> Ipv6Addr {
        let mut routed = self.extensions.iter();
        routed
            .find_map(Extension::final_destination)
            .unwrap_or(self.destination)
    }
}

/// Transport layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp(Tcp),
    /// RFC 768.
    Udp(Udp),
    /// RFC 792 or RFC 4443, by the family of the packet.
    Icmp(Icmp),
    /// No header decoded: another protocol (its number), or a fragment that does not have all of it.
    Other(u8),
}

impl Transport {
    pub(super) fn set_source_port(&mut self, port: u16) {
        match self {
            Self::Tcp(tcp) => tcp.source_port = port,
            Self::Udp(udp) => udp.source_port = port,
            Self::Icmp(_) | Self::Other(_) => {}
        }
    }

    pub(super) fn set_destination_port(&mut self, port: u16) {
        match self {
            Self::Tcp(tcp) => tcp.destination_port = port,
            Self::Udp(udp) => udp.destination_port = port,
            Self::Icmp(_) | Self::Other(_) => {}
        }
    }
}

/// TCP header; the data offset follows from the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// See [`tcp_flags`].
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options, a multiple of four bytes, 40 at most.
    pub options: Vec<u8>,
    /// Checksum over pseudo header, header and payload.
    pub checksum: Checksum,
}

impl Tcp {
    pub(super) fn new(source_port: u16, destination_port: u16, flags: u8) -> Self {
        let acknowledges = flags & tcp_flags::ACK != 0;
        Self {
            source_port,
            destination_port,
            sequence: 0x1000_0001,
            acknowledgment: if acknowledges { 0x2000_0001 } else { 0 },
            flags,
            window: 64240,
            urgent: 0,
            options: Vec::new(),
            checksum: Checksum::Correct,
        }
    }
}

/// UDP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Length, where it is not that of header and payload: in a first fragment.
    pub length: Option<u16>,
    /// Checksum over pseudo header, header and payload.
    pub checksum: Checksum,
}

/// ICMP or ICMPv6 header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Bytes 4 to 7: identifier and sequence, or unused and next-hop MTU.
    pub rest: [u8; 4],
    /// Checksum; ICMPv6 includes the pseudo header.
    pub checksum: Checksum,
}
