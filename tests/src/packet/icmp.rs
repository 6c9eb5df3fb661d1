//! ICMP and ICMPv6: errors in both families, and what they quote.

use std::net::{IpAddr, SocketAddr};

use super::decode::{Network, network};
use super::{Checksum, DecodeError, Ip, Packet, Transport, checksum};

/// An error that both families know, by RFC 792 and RFC 4443.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No route.
    NetworkUnreachable,
    /// The last hop does not answer.
    HostUnreachable,
    /// Nobody listens.
    PortUnreachable,
    /// A firewall does not want it.
    Prohibited,
    /// "Fragmentation needed", "packet too big": the next hop takes this many bytes.
    TooBig(u16),
    /// TTL or hop limit ended.
    TimeExceeded,
    /// Not all fragments came.
    ReassemblyTimeExceeded,
    /// The byte at this offset of the packet is wrong.
    ParameterProblem(u8),
}

impl IcmpError {
    /// Type, code and bytes 4 to 7.
    fn header(self, v4: bool) -> (u8, u8, [u8; 4]) {
        let (kind, code) = match (self, v4) {
            (Self::NetworkUnreachable, true) => (3, 0),
            (Self::NetworkUnreachable, false) => (1, 0),
            (Self::HostUnreachable, true) => (3, 1),
            (Self::HostUnreachable, false) => (1, 3),
            (Self::PortUnreachable, true) => (3, 3),
            (Self::PortUnreachable, false) => (1, 4),
            (Self::Prohibited, true) => (3, 13),
            (Self::Prohibited, false) => (1, 1),
            (Self::TooBig(_), true) => (3, 4),
            (Self::TooBig(_), false) => (2, 0),
            (Self::TimeExceeded, true) => (11, 0),
            (Self::TimeExceeded, false) => (3, 0),
            (Self::ReassemblyTimeExceeded, true) => (11, 1),
            (Self::ReassemblyTimeExceeded, false) => (3, 1),
            (Self::ParameterProblem(_), true) => (12, 0),
            (Self::ParameterProblem(_), false) => (4, 0),
        };
        let rest = match (self, v4) {
            (Self::TooBig(mtu), _) => u32::from(mtu).to_be_bytes(),
            (Self::ParameterProblem(pointer), true) => [pointer, 0, 0, 0],
            (Self::ParameterProblem(pointer), false) => [0, 0, 0, pointer],
            _ => [0; 4],
        };
        (kind, code, rest)
    }
}

/// Building.
impl Packet {
    /// An echo request.
    ///
    /// # Panics
    /// If an address does not parse or the families differ: a mistake in the test itself.
    #[must_use]
    pub fn echo_request(source: &str, destination: &str, id: u16, sequence: u16) -> Self {
        Self::echo((source, destination), [8, 128], id, sequence)
    }

    /// An echo reply.
    ///
    /// # Panics
    /// As [`Packet::echo_request`].
    #[must_use]
    pub fn echo_reply(source: &str, destination: &str, id: u16, sequence: u16) -> Self {
        Self::echo((source, destination), [0, 129], id, sequence)
    }

    fn echo((source, destination): (&str, &str), kinds: [u8; 2], id: u16, sequence: u16) -> Self {
        let kind = kinds[usize::from(destination.contains(':'))];
        let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
        Self::icmp(source, destination, kind, 0, [a, b, c, d])
    }

    /// The error that the host `from` sends to the source of `about`. It quotes as much as Linux does: the message has
    /// at most 576 bytes in IPv4 (RFC 1812 section 4.3.2.3) and 1280 in IPv6 (RFC 4443 section 2.4).
    ///
    /// # Panics
    /// If `from` is not an address of the packet's family.
    #[must_use]
    pub fn error_about(from: &str, error: IcmpError, about: &Self) -> Self {
        let v4 = matches!(about.ip, Ip::V4(_));
        let (kind, code, rest) = error.header(v4);
        let room = if v4 { 576 - 20 - 8 } else { 1280 - 40 - 8 };
        let to = about.ip.source().to_string();
        Self::icmp_error((from, &to), (kind, code), rest, about, Some(room))
    }

    /// What an ICMP error quotes.
    ///
    /// # Errors
    /// If the packet is no ICMP error, or the quote ends before the headers of the network layer do.
    pub fn quote(&self) -> Result<Quote, DecodeError> {
        match (&self.transport, &self.ip) {
            (Transport::Icmp(icmp), Ip::V4(_)) if matches!(icmp.kind, 3 | 4 | 5 | 11 | 12) => {}
            (Transport::Icmp(icmp), Ip::V6(_)) if icmp.kind < 128 => {}
            (other, _) => return Err(super::decode::bad("ICMP error", format!("{other:?}"))),
        }
        network(&self.payload).map(Quote::of)
    }
}

/// The beginning of a packet, as an ICMP error quotes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Network layer. The checksum of an IPv4 header is verified.
    pub ip: Ip,
    /// What the network layer carries.
    pub protocol: u8,
    /// Source and destination port of TCP and UDP; the identifier of an echo, twice. None if the quote or the protocol
    /// has none, or it is a later fragment.
    pub ports: Option<[u16; 2]>,
    /// The transport checksum, if it could be verified because the whole packet is quoted.
    pub checksum: Option<Checksum>,
    /// What is quoted behind the headers of the network layer.
    pub segment: Vec<u8>,
    /// Bytes that are quoted, from the IP header on.
    pub length: usize,
    /// Bytes that the IP header says the packet had.
    pub stated: usize,
}

impl Quote {
    fn of(network: Network<'_>) -> Self {
        let Network {
            ip,
            protocol,
            segment,
            missing,
            ..
        } = network;
        let word = |at: usize| {
            Some(u16::from_be_bytes([
                *segment.get(at)?,
                *segment.get(at + 1)?,
            ]))
        };
        let later = ip.fragment().is_some_and(|(offset, _)| offset > 0);
        let ports = match (protocol, &ip) {
            _ if later => None,
            (6 | 17, _) => word(0).zip(word(2)).map(<[u16; 2]>::from),
            (1, Ip::V4(_)) | (58, Ip::V6(_)) => word(4).map(|id| [id, id]),
            _ => None,
        };
        let whole = missing == 0 && ip.fragment().is_none();
        let checked = checksum::check_segment(ip.addresses(), protocol, segment);
        let length = ip.header_len() + segment.len();
        Self {
            checksum: whole.then(|| super::decode::verdict(&checked)),
            stated: length + missing,
            segment: segment.to_vec(),
            ip,
            protocol,
            ports,
            length,
        }
    }

    /// Where the quoted packet came from; port 0 if there is none.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        self.at(self.ip.source(), 0)
    }

    /// Where the quoted packet went; port 0 if there is none.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.at(self.ip.destination(), 1)
    }

    fn at(&self, address: IpAddr, which: usize) -> SocketAddr {
        SocketAddr::new(address, self.ports.map_or(0, |ports| ports[which]))
    }
}
