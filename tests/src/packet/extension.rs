//! IPv6 extension headers (RFC 8200 section 4).

use std::net::Ipv6Addr;

use etherparse::{IpFragOffset, IpNumber, Ipv6FragmentHeader, Ipv6RawExtHeader};

use super::decode::{DecodeError, bad};

/// One extension header; what follows it and its own length follow from the rest of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options: 8n + 6 bytes, padding included.
    HopByHop(Vec<u8>),
    /// Destination options: 8n + 6 bytes, padding included.
    Destination(Vec<u8>),
    /// A routing header of any type.
    Routing {
        /// Routing type: 0 (RFC 2460, deprecated), 2 (RFC 6275), 4 (RFC 8754).
        kind: u8,
        /// Nodes still to visit.
        segments_left: u8,
        /// What follows the first four bytes: 8n + 4 bytes.
        data: Vec<u8>,
    },
    /// A fragment header.
    Fragment {
        /// In units of 8 bytes.
        offset: u16,
        /// Not the last.
        more: bool,
        /// Which packet it is a part of.
        id: u32,
    },
}

impl Extension {
    /// Hop-by-hop options that say nothing: PadN.
    #[must_use]
    pub fn hop_by_hop() -> Self {
        Self::HopByHop(vec![1, 4, 0, 0, 0, 0])
    }

    /// Destination options that say nothing: PadN.
    #[must_use]
    pub fn destination() -> Self {
        Self::Destination(vec![1, 4, 0, 0, 0, 0])
    }

    /// A routing header of type 2 (RFC 6275 section 6.4) by way of one address.
    ///
    /// # Panics
    /// If the address does not parse: a mistake in the test itself.
    #[must_use]
    pub fn route(segments_left: u8, address: &str) -> Self {
        let address: Ipv6Addr = address
            .parse()
            .unwrap_or_else(|error| panic!("{address:?} as an address: {error}"));
        let mut data = vec![0; 4];
        data.extend(address.octets());
        Self::Routing {
            kind: 2,
            segments_left,
            data,
        }
    }

    /// The next-header value that announces it.
    pub(super) fn number(&self) -> IpNumber {
        match self {
            Self::HopByHop(_) => IpNumber::IPV6_HEADER_HOP_BY_HOP,
            Self::Destination(_) => IpNumber::IPV6_DESTINATION_OPTIONS,
            Self::Routing { .. } => IpNumber::IPV6_ROUTE_HEADER,
            Self::Fragment { .. } => IpNumber::IPV6_FRAGMENTATION_HEADER,
        }
    }

    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::HopByHop(options) | Self::Destination(options) => 2 + options.len(),
            Self::Routing { data, .. } => 4 + data.len(),
            Self::Fragment { .. } => 8,
        }
    }

    /// Whether routers on the way read it, so that every fragment of a packet has it (RFC 8200 section 4.5).
    pub(super) fn is_per_fragment(&self) -> bool {
        matches!(self, Self::HopByHop(_) | Self::Routing { .. })
    }

    /// Where a routing header finally leads: what checksums are over, whichever hop looks (RFC 8200 section 8.1).
    pub(super) fn final_destination(&self) -> Option<Ipv6Addr> {
        let Self::Routing {
            kind,
            segments_left,
            data,
        } = self
        else {
            return None;
        };
        let address = match kind {
            // The addresses of RFC 8754 are in reverse.
            4 => data.get(4..20)?,
            _ => data.get(4..)?.last_chunk::<16>()?,
        };
        let address: [u8; 16] = address.try_into().ok()?;
        (*segments_left > 0).then(|| Ipv6Addr::from(address))
    }

    pub(super) fn to_bytes(&self, next: IpNumber) -> Vec<u8> {
        match self {
            Self::HopByHop(options) | Self::Destination(options) => raw(next, options),
            Self::Routing {
                kind,
                segments_left,
                data,
            } => raw(next, &[&[*kind, *segments_left][..], data].concat()),
            Self::Fragment { offset, more, id } => {
                let offset = IpFragOffset::try_new(*offset).expect("the offset has 13 bits");
                let header = Ipv6FragmentHeader::new(next, offset, *more, *id);
                header.to_bytes().to_vec()
            }
        }
    }

    /// Decodes the extension header that `number` announces; `None` if it announces something else. Returns the header,
    /// what follows it, and the number of that.
    pub(super) fn decode(number: u8, bytes: &[u8]) -> Result<Option<Decoded<'_>>, DecodeError> {
        let number = IpNumber(number);
        if number == IpNumber::IPV6_FRAGMENTATION_HEADER {
            let (header, rest) = Ipv6FragmentHeader::from_slice(bytes)
                .map_err(|error| bad("IPv6 fragment", error))?;
            let extension = Self::Fragment {
                offset: header.fragment_offset.value(),
                more: header.more_fragments,
                id: header.identification,
            };
            return Ok(Some((extension, rest, header.next_header.0)));
        }
        let make: fn(Vec<u8>) -> Self = match number {
            IpNumber::IPV6_HEADER_HOP_BY_HOP => Self::HopByHop,
            IpNumber::IPV6_DESTINATION_OPTIONS => Self::Destination,
            IpNumber::IPV6_ROUTE_HEADER => |payload| Self::Routing {
                kind: payload[0],
                segments_left: payload[1],
                data: payload[2..].to_vec(),
            },
            _ => return Ok(None),
        };
        let (header, rest) = Ipv6RawExtHeader::from_slice(bytes)
            .map_err(|error| bad("IPv6 extension header", error))?;
        Ok(Some((
            make(header.payload().to_vec()),
            rest,
            header.next_header.0,
        )))
    }
}

/// A header, the bytes behind it, and the number of what they are.
type Decoded<'a> = (Extension, &'a [u8], u8);

fn raw(next: IpNumber, payload: &[u8]) -> Vec<u8> {
    let header = Ipv6RawExtHeader::new_raw(next, payload)
        .expect("an extension header has 8n bytes, its first two included");
    header.to_bytes().to_vec()
}
