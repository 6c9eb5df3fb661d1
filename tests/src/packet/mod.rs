//! Frames as values: build one, send it through a program, compare what came out with what should have.
//!
//! [`Packet`] is both the builder and the decoded form. A test clones what it sent, edits the fields it expects to
//! change and hands the result to [`assert_frame`], which compares field by field first (readable) and byte by byte
//! second (complete). Checksums appear as [`Checksum::Correct`] when they are right for the bytes they cover, so a
//! rewritten packet needs no arithmetic in the test.

pub mod checksum;
mod decode;
mod diff;
mod edit;
mod encode;
mod extension;
mod fields;
mod fragment;
mod icmp;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub use decode::{DecodeError, decode, decode_network};
pub use diff::{assert_frame, differences};
pub use extension::Extension;
pub use fields::{Checksum, Ethernet, Icmp, Ip, Ipv4, Ipv6, Tcp, Transport, Udp, Vlan, tcp_flags};
pub use icmp::{IcmpError, Quote};

/// Bytes before the IP header of an untagged frame.
pub const ETHERNET_LEN: usize = 14;

/// MAC address a packet has as its source unless told otherwise.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

/// MAC address a packet has as its destination unless told otherwise.
pub const DESTINATION_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// An Ethernet frame that carries IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Link layer, VLAN tags included.
    pub ethernet: Ethernet,
    /// Network layer.
    pub ip: Ip,
    /// Transport layer; [`Transport::Other`] for later fragments, for first ones that end inside the transport header,
    /// and for protocols nobody translates.
    pub transport: Transport,
    /// What the transport header is followed by, up to the length the IP header states.
    pub payload: Vec<u8>,
    /// Bytes after the length the IP header states: Ethernet padding.
    pub trailer: Vec<u8>,
}

impl Packet {
    fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        let ip = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Ip::V4(Ipv4::new(source, destination)),
            (IpAddr::V6(source), IpAddr::V6(destination)) => Ip::V6(Ipv6::new(source, destination)),
            _ => panic!("{source} and {destination} are not of the same family"),
        };
        Self {
            ethernet: Ethernet {
                destination: DESTINATION_MAC,
                source: SOURCE_MAC,
                vlans: Vec::new(),
            },
            ip,
            transport,
            payload: Vec::new(),
            trailer: Vec::new(),
        }
    }

    /// A TCP segment with the given [`tcp_flags`].
    ///
    /// # Panics
    /// If an address does not parse or the families differ: a mistake in the test itself.
    #[must_use]
    pub fn tcp(source: &str, destination: &str, flags: u8) -> Self {
        let (source, destination) = (socket_addr(source), socket_addr(destination));
        let tcp = Tcp::new(source.port(), destination.port(), flags);
        Self::new(source.ip(), destination.ip(), Transport::Tcp(tcp))
    }

    /// The first segment of a connection, with the options Linux sends (MSS 1460, SACK, window scale).
    ///
    /// # Panics
    /// As [`Packet::tcp`].
    #[must_use]
    pub fn syn(source: &str, destination: &str) -> Self {
        Self::tcp(source, destination, tcp_flags::SYN).with_tcp_options(&[
            2, 4, 0x05, 0xb4, // MSS 1460
            4, 2, // SACK permitted
            1, 3, 3, 7, // padding, window scale 7
            1, 1, // padding
        ])
    }

    /// A UDP datagram.
    ///
    /// # Panics
    /// As [`Packet::tcp`].
    #[must_use]
    pub fn udp(source: &str, destination: &str) -> Self {
        let (source, destination) = (socket_addr(source), socket_addr(destination));
        let udp = Udp {
            source_port: source.port(),
            destination_port: destination.port(),
            length: None,
            checksum: Checksum::Correct,
        };
        Self::new(source.ip(), destination.ip(), Transport::Udp(udp))
    }

    /// An ICMP or ICMPv6 message; `rest` are bytes 4 to 7 (identifier and sequence, or the next-hop MTU).
    ///
    /// # Panics
    /// As [`Packet::tcp`].
    #[must_use]
    pub fn icmp(source: &str, destination: &str, kind: u8, code: u8, rest: [u8; 4]) -> Self {
        let icmp = Icmp {
            kind,
            code,
            rest,
            checksum: Checksum::Correct,
        };
        Self::new(ip_addr(source), ip_addr(destination), Transport::Icmp(icmp))
    }

    /// An IP packet of another protocol, or a later fragment: the payload follows the IP header directly.
    ///
    /// # Panics
    /// As [`Packet::tcp`].
    #[must_use]
    pub fn other(source: &str, destination: &str, protocol: u8) -> Self {
        Self::new(
            ip_addr(source),
            ip_addr(destination),
            Transport::Other(protocol),
        )
    }

    /// An ICMP error that quotes `quoted` from its IP header on, cut to `quoted_len` bytes if given.
    ///
    /// # Panics
    /// As [`Packet::tcp`].
    #[must_use]
    pub fn icmp_error(
        addresses: (&str, &str),
        (kind, code): (u8, u8),
        rest: [u8; 4],
        quoted: &Self,
        quoted_len: Option<usize>,
    ) -> Self {
        let mut bytes = quoted.to_bytes().split_off(quoted.network_offset());
        bytes.truncate(quoted_len.unwrap_or(bytes.len()));
        Self::icmp(addresses.0, addresses.1, kind, code, rest).with_payload(&bytes)
    }
}

/// Views.
impl Packet {
    /// Where the IP header starts.
    #[must_use]
    pub fn network_offset(&self) -> usize {
        ETHERNET_LEN + 4 * self.ethernet.vlans.len()
    }

    /// Where the transport header starts.
    #[must_use]
    pub fn transport_offset(&self) -> usize {
        self.network_offset() + self.ip.header_len()
    }

    /// The IPv4 header, to edit.
    ///
    /// # Panics
    /// If the packet is IPv6.
    pub fn ipv4_mut(&mut self) -> &mut Ipv4 {
        match &mut self.ip {
            Ip::V4(ip) => ip,
            Ip::V6(_) => panic!("an IPv6 packet has no IPv4 header"),
        }
    }

    /// The TCP header, to edit.
    ///
    /// # Panics
    /// If the packet is not TCP.
    pub fn tcp_mut(&mut self) -> &mut Tcp {
        match &mut self.transport {
            Transport::Tcp(tcp) => tcp,
            other => panic!("{other:?} is not TCP"),
        }
    }
}

fn socket_addr(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?} as ADDR:PORT: {error}"))
}

fn ip_addr(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?} as an address: {error}"))
}
