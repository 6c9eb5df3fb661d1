//! From bytes to a [`Packet`]: what the pipeline needs to know, and where it will write.

use network_types::{
    eth::EthHdr,
    ip::{IpProto, Ipv4Hdr},
    tcp::TcpHdr,
    udp::UdpHdr,
};

use crate::{
    address::V4,
    flow::FlowKey,
    frame::{Frame, Transport},
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
    /// Offset of the transport header in the frame, in bytes.
    pub transport_offset: usize,
    /// The Ethernet header.
    pub ethernet: *mut EthHdr,
    /// The fixed part of the IPv4 header.
    pub ip: *mut Ipv4Hdr,
    /// Source and destination port, which TCP and UDP share.
    pub ports: *mut [u8; 4],
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
    let ether_type = unsafe { (&raw const (*ethernet).ether_type).read_unaligned() };
    if ether_type != ETHERTYPE_IPV4 {
        return Err(Reason::NotIpv4);
    }
    let ip = frame.at::<Ipv4Hdr>(EthHdr::LEN).ok_or(Reason::Malformed)?;
    // SAFETY: `at` bounds-checked the header.
    let header = unsafe { ip.read() };
    let header_length = header_length(&header)?;
    let transport = match header.proto {
        proto if proto == IpProto::Tcp as u8 => Transport::Tcp,
        proto if proto == IpProto::Udp as u8 => Transport::Udp,
        _ => return Err(Reason::NotTransport),
    };
    let fragment = u16::from_ne_bytes(header.frags);
    if fragment & FRAGMENT_MASK != 0 {
        return Err(Reason::Fragment);
    }
    let destination = V4::new(header.dst_addr);
    if destination.is_multicast_or_broadcast() {
        return Err(Reason::NotUnicast);
    }
    let length = u16::from_be_bytes(header.tot_len);
    let transport_offset = EthHdr::LEN + header_length;
    let payload = u32::from(length).wrapping_sub(header_length as u32);
    // The frame may be longer (Ethernet pads to 60 bytes), never shorter.
    if u32::from(length) + EthHdr::LEN as u32 > frame.length() || header_length > length as usize {
        return Err(Reason::Malformed);
    }
    let (flags, ports) = match transport {
        Transport::Tcp => parse_tcp(frame, transport_offset, payload)?,
        Transport::Udp => parse_udp(frame, transport_offset, payload)?,
    };
    // SAFETY: `parse_tcp` and `parse_udp` bounds-checked the header these open.
    let [s0, s1, d0, d1] = unsafe { ports.read() };
    Ok(Packet {
        key: FlowKey::new(
            V4::new(header.src_addr),
            destination,
            u16::from_ne_bytes([s0, s1]),
            u16::from_ne_bytes([d0, d1]),
            header.proto,
        ),
        transport,
        flags,
        ttl: header.ttl,
        tos: header.tos,
        dont_fragment: fragment & DONT_FRAGMENT != 0,
        length,
        transport_offset,
        ethernet,
        ip,
        ports,
    })
}

/// Bytes of the IPv4 header with its options, from IHL (RFC 791 section 3.1): 20 to 60.
#[inline(always)]
fn header_length(header: &Ipv4Hdr) -> Result<usize, Reason> {
    let words = usize::from(header.vihl & 0xf);
    if header.vihl >> 4 != 4 || words < 5 {
        return Err(Reason::Malformed);
    }
    Ok(words * 4)
}

#[inline(always)]
fn parse_tcp<F: Frame>(
    frame: &F,
    offset: usize,
    payload: u32,
) -> Result<(Flags, *mut [u8; 4]), Reason> {
    let tcp = frame.at::<TcpHdr>(offset).ok_or(Reason::Malformed)?;
    // The data offset and flags are octets 12 and 13 (RFC 9293 section 3.1).
    // SAFETY: `at` bounds-checked all twenty bytes.
    let octets = unsafe { tcp.cast::<[u8; TcpHdr::LEN]>().read() };
    let data_offset = u32::from(octets[12] >> 4) * 4;
    if data_offset < TcpHdr::LEN as u32 || data_offset > payload {
        return Err(Reason::Malformed);
    }
    Ok((Flags::new(octets[13]), tcp.cast()))
}

#[inline(always)]
fn parse_udp<F: Frame>(
    frame: &F,
    offset: usize,
    payload: u32,
) -> Result<(Flags, *mut [u8; 4]), Reason> {
    let udp = frame.at::<UdpHdr>(offset).ok_or(Reason::Malformed)?;
    // SAFETY: `at` bounds-checked all eight bytes.
    let length = u32::from(u16::from_be_bytes(unsafe { (*udp).len }));
    if length < UdpHdr::LEN as u32 || length > payload {
        return Err(Reason::Malformed);
    }
    Ok((Flags::NONE, udp.cast()))
}
