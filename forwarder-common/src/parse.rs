//! From bytes to a [`Packet`]: what the pipeline needs to know, and where it will write.

use core::{mem::offset_of, ops::Deref};

use network_types::{eth::EthHdr, icmp::Icmpv4Hdr, ip::IpProto, tcp::TcpHdr, udp::UdpHdr};

use crate::{
    ethernet::Macs,
    flow::FlowKey,
    frame::{self, Frame, Transport},
    network::{Header, Message, Network},
    reason::Reason,
    stage::{Exit, Stage},
    tcp::Flags,
};

/// IP protocol numbers (IANA).
pub const TCP: u8 = IpProto::Tcp as u8;
/// See [`TCP`].
pub const UDP: u8 = IpProto::Udp as u8;

/// EtherTypes of a VLAN tag as they are loaded natively: IEEE 802.1Q, and 802.1ad for the outer one of two.
pub const VLAN: [u16; 2] = [0x8100_u16.to_be(), 0x88a8_u16.to_be()];
/// Bytes of a VLAN tag: its EtherType and its control field.
pub const TAG: usize = 4;

/// How a frame begins.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Where the frame begins: both MAC addresses.
    pub ethernet: *mut u32,
    /// The MAC addresses it came with.
    pub macs: Macs,
    /// EtherType of what is in it, as loaded natively.
    pub ether_type: u16,
    /// Its VLAN tag, if it has one.
    pub tag: Option<Tag>,
    /// Where the network header begins, in bytes from the start of the frame.
    pub network: usize,
}

/// A VLAN tag.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Its EtherType, as loaded natively.
    pub protocol: u16,
    /// VLAN identifier, host byte order.
    pub id: u16,
}

/// A unicast IP packet, or the first part of one.
///
/// The pointers lead into the frame it was parsed from and every one was bounds-checked there.
#[derive(Clone, Copy, Debug)]
pub struct Packet<A> {
    /// The five-tuple as it stands in the packet.
    pub key: FlowKey<A>,
    /// What matters of it besides.
    pub facts: Facts,
    /// Offset of the IP header in the frame, in bytes.
    pub network: usize,
    /// Offset of the transport header in the frame, in bytes.
    pub transport_offset: usize,
    /// Where the frame begins.
    pub ethernet: *mut u32,
    /// The fixed part of the IP header.
    pub ip: *mut u8,
    /// The transport header; the IP header where there is none.
    pub segment: *mut u8,
}

/// What matters of a packet besides its addresses and ports.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What follows the IP header.
    pub transport: Transport,
    /// TCP flags; empty for others.
    pub flags: Flags,
    /// Time to live or hop limit as received.
    pub hops: u8,
    /// Type of service or traffic class, for routing.
    pub tos: u8,
    /// Length of the IP packet in bytes, from its header.
    pub length: u32,
    /// Bytes of the IP and transport headers with their options.
    pub headers: u16,
    /// The MAC addresses it came with.
    pub macs: Macs,
}

impl<A> Deref for Packet<A> {
    type Target = Facts;

    #[inline(always)]
    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// Reads how `frame` begins.
///
/// # Errors
///
/// [`Reason::Malformed`] for less than an Ethernet header.
#[inline(always)]
pub fn link<F: Frame>(frame: &F) -> Result<Link, Reason> {
    let ethernet: *const u8 = frame.at::<EthHdr>(0).ok_or(Reason::Malformed)?.cast();
    // SAFETY: `at` bounds-checked the header.
    let ether_type: u16 = unsafe { frame::read_field(ethernet, offset_of!(EthHdr, ether_type)) };
    let mut link = Link {
        ethernet: ethernet.cast_mut().cast(),
        // SAFETY: as above; its first twelve bytes are the MACs.
        macs: Macs(unsafe { frame::read_words(ethernet.cast()) }),
        ether_type,
        tag: None,
        network: EthHdr::LEN,
    };
    if VLAN.contains(&ether_type) {
        let tag: *const u8 = frame
            .at::<u32>(EthHdr::LEN)
            .ok_or(Reason::Malformed)?
            .cast();
        // SAFETY: `at` bounds-checked the control field and the next EtherType.
        let control: u16 = unsafe { frame::read_field(tag, 0) };
        link.tag = Some(Tag {
            protocol: ether_type,
            id: u16::from_be(control) & 0x0fff,
        });
        // SAFETY: as above.
        link.ether_type = unsafe { frame::read_field(tag, 2) };
        link.network += TAG;
    }
    Ok(link)
}

/// Reads the IP header behind `link`, and checks that the packet is all there and for one host.
///
/// # Errors
///
/// The [`Reason`] why this is not a packet the forwarder can translate. Nothing is written.
#[inline(always)]
pub fn header<A: Network, F: Frame>(frame: &F, link: &Link) -> Result<Header<A>, Reason> {
    let header = A::header(frame, link.network)?;
    if !header.destination.is_one_host() || !header.source.is_one_host() {
        return Err(Reason::NotUnicast);
    }
    // The frame may be longer (Ethernet pads to 60 bytes), never shorter.
    if header.total + link.network as u32 > frame.length()
        || u32::from(header.length) > header.total
    {
        return Err(Reason::Malformed);
    }
    Ok(header)
}

/// The packet with this `header`, whose transport header must be in it.
///
/// # Errors
///
/// Why it is not, or that it is an ICMP error.
#[inline(always)]
pub fn packet<A: Network, F: Frame>(
    frame: &F,
    link: &Link,
    header: &Header<A>,
) -> Result<Packet<A>, Exit> {
    let offset = link.network + usize::from(header.length);
    let room = header.total - u32::from(header.length);
    let segment = match header.protocol {
        TCP => tcp(frame, offset, room)?,
        UDP => udp(frame, offset, room, header.part.more)?,
        protocol if protocol == A::ICMP => icmp::<A, F>(frame, offset, room)?,
        _ => Segment {
            transport: Transport::Other,
            ..Segment::NONE
        },
    };
    Ok(assemble(frame, link, header, &segment)?)
}

/// The packet behind `link` if it is of the commonest kind: TCP or UDP, whole, without tag, options and extension
/// headers. What is of another kind or in any way wrong is none, and [`header`] and [`packet`]
/// say why. Addresses are not looked at: no flow has one that is wrong. Nor is what only a new flow needs.
#[inline(always)]
pub fn plain<A: Network, F: Frame>(frame: &F, link: &Link) -> Option<Packet<A>> {
    if link.tag.is_some() {
        return None;
    }
    // A constant, unlike what `link` says.
    let link = Link {
        network: EthHdr::LEN,
        ..*link
    };
    let header = A::plain(frame, link.network)?;
    let length = u32::from(header.length);
    if header.total + link.network as u32 > frame.length() || length > header.total {
        return None;
    }
    let offset = link.network + usize::from(header.length);
    let room = header.total - length;
    let segment = match header.protocol {
        TCP => tcp(frame, offset, room).ok()?,
        UDP => udp(frame, offset, room, false).ok()?,
        _ => return None,
    };
    assemble(frame, &link, &header, &segment).ok()
}

/// A fragment that is not the first, whose ports are known from elsewhere.
///
/// # Errors
///
/// Never: the headers were checked before.
#[inline(always)]
pub fn tail<A: Network, F: Frame>(
    frame: &F,
    link: &Link,
    header: &Header<A>,
    ports: [u16; 2],
) -> Result<Packet<A>, Reason> {
    let segment = Segment {
        ports,
        ..Segment::NONE
    };
    assemble(frame, link, header, &segment)
}

#[inline(always)]
fn assemble<A: Network, F: Frame>(
    frame: &F,
    link: &Link,
    header: &Header<A>,
    segment: &Segment,
) -> Result<Packet<A>, Reason> {
    let ip = match A::IPV6 {
        true => frame.at::<[u8; 40]>(link.network).map(|ip| ip.cast::<u8>()),
        false => frame.at::<[u8; 20]>(link.network).map(|ip| ip.cast::<u8>()),
    };
    let ip = ip.ok_or(Reason::Malformed)?;
    let [source, destination] = segment.ports;
    Ok(Packet {
        key: FlowKey::new(
            header.source,
            header.destination,
            source,
            destination,
            header.protocol,
        ),
        facts: Facts {
            transport: segment.transport,
            flags: segment.flags,
            hops: header.hops,
            tos: header.tos,
            length: header.total,
            headers: header.length + segment.length,
            macs: link.macs,
        },
        network: link.network,
        transport_offset: link.network + usize::from(header.length),
        ethernet: link.ethernet,
        ip,
        segment: segment.start.unwrap_or(ip),
    })
}

/// The transport header.
struct Segment {
    transport: Transport,
    start: Option<*mut u8>,
    length: u16,
    flags: Flags,
    /// Source and destination, network byte order.
    ports: [u16; 2],
}

impl Segment {
    const NONE: Self = Self {
        transport: Transport::Tail,
        start: None,
        length: 0,
        flags: Flags::NONE,
        ports: [0; 2],
    };

    /// # Safety
    ///
    /// `start` must lead to at least four readable bytes.
    #[inline(always)]
    unsafe fn with_ports(transport: Transport, start: *mut u8, length: u32, flags: Flags) -> Self {
        // SAFETY: the caller's promise.
        let source = unsafe { frame::read_field(start, 0) };
        // SAFETY: as above.
        let destination = unsafe { frame::read_field(start, 2) };
        Self {
            transport,
            start: Some(start),
            length: length as u16,
            flags,
            ports: [source, destination],
        }
    }
}

#[inline(always)]
fn tcp<F: Frame>(frame: &F, offset: usize, room: u32) -> Result<Segment, Reason> {
    let start: *mut u8 = frame.at::<TcpHdr>(offset).ok_or(Reason::Malformed)?.cast();
    // The data offset and the flags are octets 12 and 13 (RFC 9293 section 3.1).
    // SAFETY: `at` bounds-checked all twenty bytes.
    let octets: u16 = unsafe { frame::read_field(start, 12) };
    let [words, flags] = octets.to_ne_bytes();
    let length = u32::from(words >> 4) * 4;
    if length < TcpHdr::LEN as u32 || length > room {
        return Err(Reason::Malformed);
    }
    // SAFETY: `at` bounds-checked all twenty bytes.
    Ok(unsafe { Segment::with_ports(Transport::Tcp, start, length, Flags::new(flags)) })
}

/// `partial`: the rest of the datagram is in other fragments.
#[inline(always)]
fn udp<F: Frame>(frame: &F, offset: usize, room: u32, partial: bool) -> Result<Segment, Reason> {
    let start: *mut u8 = frame.at::<UdpHdr>(offset).ok_or(Reason::Malformed)?.cast();
    // SAFETY: `at` bounds-checked all eight bytes.
    let length: u16 = unsafe { frame::read_field(start, offset_of!(UdpHdr, len)) };
    let length = u32::from(u16::from_be(length));
    let least = UdpHdr::LEN as u32;
    if length < least || room < least || (length > room && !partial) {
        return Err(Reason::Malformed);
    }
    // SAFETY: `at` bounds-checked all eight bytes.
    Ok(unsafe { Segment::with_ports(Transport::Udp, start, least, Flags::NONE) })
}

/// Offset of the identifier in an echo message (RFC 792, RFC 4443 section 4).
pub const IDENTIFIER: usize = 4;

#[inline(always)]
fn icmp<A: Network, F: Frame>(frame: &F, offset: usize, room: u32) -> Result<Segment, Exit> {
    let start: *mut u8 = frame
        .at::<Icmpv4Hdr>(offset)
        .ok_or(Reason::Malformed)?
        .cast();
    if room < Icmpv4Hdr::LEN as u32 {
        return Err(Exit::Refused(Reason::Malformed));
    }
    // SAFETY: `at` bounds-checked all eight bytes.
    let kind: u8 = unsafe { frame::read_field(start, 0) };
    // SAFETY: as above.
    let identifier: u16 = unsafe { frame::read_field(start, IDENTIFIER) };
    let (transport, ports) = match A::message(kind) {
        Message::Echo => (Transport::Echo, [identifier, 0]),
        Message::EchoReply => (Transport::EchoReply, [0, identifier]),
        Message::Error => return Err(Exit::To(Stage::Error)),
        Message::Other => (Transport::Other, [0; 2]),
    };
    Ok(Segment {
        transport,
        start: Some(start),
        length: Icmpv4Hdr::LEN as u16,
        flags: Flags::NONE,
        ports,
    })
}
