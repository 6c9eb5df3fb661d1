//! From bytes to a [`Packet`]: what the pipeline needs to know, and where it will write.

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
/// "Don't fragment" (RFC 791), as loaded natively.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();

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
    /// Whether the sender forbade fragmentation.
    pub dont_fragment: bool,
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
    pub ip: *mut Ipv4Hdr,
    /// Source port, then destination port, which TCP and UDP share.
    pub ports: *mut u16,
}

/// Parses `frame`, whose first byte is the Ethernet destination.
///
/// # Errors
///
/// The [`Reason`] why this is not a packet the forwarder can translate. Nothing is written.
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Result<Packet, Reason> {
    let ethernet = frame.at::<EthHdr>(0).ok_or(Reason::Malformed)?;
    // SAFETY: `at` bounds-checked the header.
    let ether_type = unsafe { frame::read(&raw const (*ethernet).ether_type) };
    if ether_type != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip = frame.at::<Ipv4Hdr>(EthHdr::LEN).ok_or(Reason::Malformed)?;
    // SAFETY: `at` bounds-checked the header; every field of it is read as bytes or one word.
    let header = unsafe { Header::read(ip) };
    let header_length = header_length(header.vihl)?;
    let transport = match header.protocol {
        protocol if protocol == IpProto::Tcp as u8 => Transport::Tcp,
        protocol if protocol == IpProto::Udp as u8 => Transport::Udp,
        _ => return Err(Reason::NotTransport),
    };
    if header.fragment & FRAGMENT_MASK != 0 {
        return Err(Reason::Fragment);
    }
    if header.destination.is_multicast_or_broadcast() {
        return Err(Reason::NotUnicast);
    }
    // The frame may be longer (Ethernet pads to 60 bytes), never shorter.
    if u32::from(header.length) + EthHdr::LEN as u32 > frame.length()
        || header_length > usize::from(header.length)
    {
        return Err(Reason::Malformed);
    }
    let transport_offset = EthHdr::LEN + header_length;
    let payload = u32::from(header.length) - header_length as u32;
    let (flags, transport_length, ports) = match transport {
        Transport::Tcp => parse_tcp(frame, transport_offset, payload)?,
        Transport::Udp => parse_udp(frame, transport_offset, payload)?,
    };
    // SAFETY: `parse_tcp` and `parse_udp` bounds-checked the header these open.
    let (source_port, destination_port) =
        unsafe { (frame::read(ports), frame::read(ports.add(1))) };
    Ok(Packet {
        key: FlowKey::new(
            header.source,
            header.destination,
            source_port,
            destination_port,
            header.protocol,
        ),
        transport,
        flags,
        ttl: header.ttl,
        tos: header.tos,
        dont_fragment: header.fragment & DONT_FRAGMENT != 0,
        length: header.length,
        headers: header_length as u16 + transport_length,
        transport_offset,
        // SAFETY: `at` bounds-checked the Ethernet header.
        macs: Macs(unsafe { frame::read_words(ethernet.cast()) }),
        ethernet: ethernet.cast(),
        ip,
        ports,
    })
}

/// The fields of an IPv4 header that matter here.
struct Header {
    vihl: u8,
    tos: u8,
    length: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    source: V4,
    destination: V4,
}

impl Header {
    /// # Safety
    ///
    /// `ip` must lead to a whole header.
    #[inline(always)]
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "one promise covers every field"
    )]
    unsafe fn read(ip: *const Ipv4Hdr) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                vihl: (*ip).vihl,
                tos: (*ip).tos,
                length: u16::from_be(frame::read((&raw const (*ip).tot_len).cast())),
                fragment: frame::read((&raw const (*ip).frags).cast()),
                ttl: (*ip).ttl,
                protocol: (*ip).proto,
                source: V4::from_raw(frame::read((&raw const (*ip).src_addr).cast())),
                destination: V4::from_raw(frame::read((&raw const (*ip).dst_addr).cast())),
            }
        }
    }
}

/// Bytes of the IPv4 header with its options, from IHL (RFC 791 section 3.1): 20 to 60.
#[inline(always)]
fn header_length(vihl: u8) -> Result<usize, Reason> {
    let words = usize::from(vihl & 0xf);
    if vihl >> 4 != 4 || words < 5 {
        return Err(Reason::Malformed);
    }
    Ok(words * 4)
}

#[inline(always)]
fn parse_tcp<F: Frame>(
    frame: &F,
    offset: usize,
    payload: u32,
) -> Result<(Flags, u16, *mut u16), Reason> {
    let tcp = frame.at::<TcpHdr>(offset).ok_or(Reason::Malformed)?;
    // The data offset and flags are octets 12 and 13 (RFC 9293 section 3.1).
    // SAFETY: `at` bounds-checked all twenty bytes.
    let octet = unsafe { tcp.cast::<u8>().add(12) };
    // SAFETY: as above.
    let [words, flags] = unsafe { frame::read(octet.cast::<u16>()) }.to_ne_bytes();
    let data_offset = u32::from(words >> 4) * 4;
    if data_offset < TcpHdr::LEN as u32 || data_offset > payload {
        return Err(Reason::Malformed);
    }
    Ok((Flags::new(flags), data_offset as u16, tcp.cast()))
}

#[inline(always)]
fn parse_udp<F: Frame>(
    frame: &F,
    offset: usize,
    payload: u32,
) -> Result<(Flags, u16, *mut u16), Reason> {
    let udp = frame.at::<UdpHdr>(offset).ok_or(Reason::Malformed)?;
    // SAFETY: `at` bounds-checked all eight bytes.
    let length = unsafe { frame::read((&raw const (*udp).len).cast()) };
    let length = u32::from(u16::from_be(length));
    if length < UdpHdr::LEN as u32 || length > payload {
        return Err(Reason::Malformed);
    }
    Ok((Flags::NONE, UdpHdr::LEN as u16, udp.cast()))
}
