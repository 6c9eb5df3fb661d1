//! From bytes to a [`Packet`]: what the pipeline needs to know, and where it will write.

use core::mem::offset_of;

use network_types::{
    eth::EthHdr,
    ip::{IpProto, Ipv4Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use crate::{
    address::V4,
    ethernet::Macs,
    flow::FlowKey,
    frame::{self, Frame, Transport},
    reason::Reason,
    tcp::Flags,
};

/// EtherType of IPv4 (RFC 894), as it is loaded natively.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// "More fragments" and the 13-bit offset of RFC 791's flags field, as loaded natively: any bit set
/// makes the packet a fragment.
const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();

/// IP protocol numbers (IANA).
const TCP: u8 = IpProto::Tcp as u8;
/// See [`TCP`].
const UDP: u8 = IpProto::Udp as u8;

/// A unicast IPv4 TCP or UDP packet that is whole.
///
/// The pointers lead into the frame it was parsed from and every one was bounds-checked there.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// The five-tuple as it stands in the packet.
    pub key: FlowKey<V4>,
    /// TCP or UDP.
    pub transport: Transport,
    /// TCP flags; empty for UDP.
    pub flags: Flags,
    /// Time to live as received.
    pub ttl: u8,
    /// Type of service, for routing.
    pub tos: u8,
    /// Length of the IP packet in bytes, from its header.
    pub length: u16,
    /// Bytes of the IP and transport headers with their options.
    pub headers: u16,
    /// Offset of the transport header in the frame, in bytes.
    pub transport_offset: usize,
    /// The MAC addresses it came with.
    pub macs: Macs,
    /// Where the frame begins: both MAC addresses.
    pub ethernet: *mut u32,
    /// The fixed part of the IPv4 header.
    pub ip: *mut u8,
    /// The transport header: source port, then destination port, in TCP and UDP alike.
    pub ports: *mut u8,
}

/// Parses `frame`, whose first byte is the Ethernet destination.
///
/// # Errors
///
/// The [`Reason`] why this is not a packet the forwarder can translate. Nothing is written.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Result<Packet, Reason> {
    let ethernet = frame.at::<EthHdr>(0).ok_or(Reason::Malformed)?;
    let (ip, header) = parse_ip(frame, ethernet.cast())?;
    let transport_offset = EthHdr::LEN + usize::from(header.header_length);
    let payload = u32::from(header.length) - u32::from(header.header_length);
    let (transport, segment) = match header.protocol {
        TCP => (Transport::Tcp, parse_tcp(frame, transport_offset, payload)?),
        UDP => (Transport::Udp, parse_udp(frame, transport_offset, payload)?),
        _ => return Err(Reason::NotTransport),
    };
    Ok(Packet {
        key: FlowKey::new(
            header.source,
            header.destination,
            segment.source_port_be,
            segment.destination_port_be,
            header.protocol,
        ),
        transport,
        flags: segment.flags,
        ttl: header.ttl,
        tos: header.tos,
        length: header.length,
        headers: header.header_length + segment.header_length,
        transport_offset,
        // SAFETY: `at` bounds-checked the Ethernet header.
        macs: Macs(unsafe { frame::read_words(ethernet.cast()) }),
        ethernet: ethernet.cast(),
        ip,
        ports: segment.start,
    })
}

/// The fields of an IPv4 header that matter here.
struct Header {
    header_length: u16,
    tos: u8,
    length: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    source: V4,
    destination: V4,
}

/// Finds the IPv4 header and checks that the packet is whole and for one host.
#[inline(always)]
fn parse_ip<F: Frame>(frame: &F, ethernet: *const u8) -> Result<(*mut u8, Header), Reason> {
    // SAFETY: the caller has bounds-checked the Ethernet header.
    let ether_type: u16 = unsafe { frame::read_field(ethernet, offset_of!(EthHdr, ether_type)) };
    if ether_type != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip = frame.at::<Ipv4Hdr>(EthHdr::LEN).ok_or(Reason::Malformed)?;
    // SAFETY: `at` bounds-checked the header.
    let header = unsafe { Header::read(ip.cast()) }?;
    if header.protocol != TCP && header.protocol != UDP {
        return Err(Reason::NotTransport);
    }
    if header.fragment & FRAGMENT_MASK != 0 {
        return Err(Reason::Fragment);
    }
    if !header.destination.is_one_host() || !header.source.is_one_host() {
        return Err(Reason::NotUnicast);
    }
    // The frame may be longer (Ethernet pads to 60 bytes), never shorter.
    let end = u32::from(header.length) + EthHdr::LEN as u32;
    if end > frame.length() || header.header_length > header.length {
        return Err(Reason::Malformed);
    }
    Ok((ip.cast(), header))
}

impl Header {
    /// # Safety
    ///
    /// `ip` must lead to a whole fixed header.
    #[inline(always)]
    unsafe fn read(ip: *const u8) -> Result<Self, Reason> {
        macro_rules! field {
            ($name:ident) => {
                // SAFETY: the caller's promise covers every field.
                unsafe { frame::read_field(ip, offset_of!(Ipv4Hdr, $name)) }
            };
        }
        // IHL counts words (RFC 791 section 3.1): 20 to 60 bytes with options.
        let version_and_length: u8 = field!(vihl);
        let header_length = u16::from(version_and_length & 0xf) * 4;
        if version_and_length >> 4 != 4 || usize::from(header_length) < Ipv4Hdr::LEN {
            return Err(Reason::Malformed);
        }
        Ok(Self {
            header_length,
            tos: field!(tos),
            length: u16::from_be(field!(tot_len)),
            fragment: field!(frags),
            ttl: field!(ttl),
            protocol: field!(proto),
            source: V4::from_raw(field!(src_addr)),
            destination: V4::from_raw(field!(dst_addr)),
        })
    }
}

/// The transport header.
struct Segment {
    start: *mut u8,
    header_length: u16,
    flags: Flags,
    source_port_be: u16,
    destination_port_be: u16,
}

impl Segment {
    /// # Safety
    ///
    /// `start` must lead to at least four readable bytes.
    #[inline(always)]
    unsafe fn new(start: *mut u8, header_length: u32, flags: Flags) -> Self {
        Self {
            start,
            header_length: header_length as u16,
            flags,
            // SAFETY: the caller's promise.
            source_port_be: unsafe { frame::read_field(start, 0) },
            // SAFETY: as above.
            destination_port_be: unsafe { frame::read_field(start, 2) },
        }
    }
}

#[inline(always)]
fn parse_tcp<F: Frame>(frame: &F, offset: usize, payload: u32) -> Result<Segment, Reason> {
    let start: *mut u8 = frame.at::<TcpHdr>(offset).ok_or(Reason::Malformed)?.cast();
    // The data offset and the flags are octets 12 and 13 (RFC 9293 section 3.1).
    // SAFETY: `at` bounds-checked all twenty bytes.
    let octets: u16 = unsafe { frame::read_field(start, 12) };
    let [words, flags] = octets.to_ne_bytes();
    let length = u32::from(words >> 4) * 4;
    if length < TcpHdr::LEN as u32 || length > payload {
        return Err(Reason::Malformed);
    }
    // SAFETY: `at` bounds-checked all twenty bytes.
    Ok(unsafe { Segment::new(start, length, Flags::new(flags)) })
}

#[inline(always)]
fn parse_udp<F: Frame>(frame: &F, offset: usize, payload: u32) -> Result<Segment, Reason> {
    let start: *mut u8 = frame.at::<UdpHdr>(offset).ok_or(Reason::Malformed)?.cast();
    // SAFETY: `at` bounds-checked all eight bytes.
    let length: u16 = unsafe { frame::read_field(start, offset_of!(UdpHdr, len)) };
    let length = u32::from(u16::from_be(length));
    if length < UdpHdr::LEN as u32 || length > payload {
        return Err(Reason::Malformed);
    }
    // SAFETY: `at` bounds-checked all eight bytes.
    Ok(unsafe { Segment::new(start, UdpHdr::LEN as u32, Flags::NONE) })
}
