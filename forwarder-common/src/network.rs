//! The IP header of either family: what is read of it and what is written to it.

use core::mem::offset_of;

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    address::{Address, V4, V6},
    checksum::Delta,
    frame::{self, Frame},
    reason::Reason,
};

/// What matters of an IP header, its extension headers included.
#[derive(Clone, Copy, Debug)]
pub struct Header<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Bytes before the transport header.
    pub length: u16,
    /// Bytes of the whole packet, as the header says.
    pub total: u32,
    /// Protocol number of what follows.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hops: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Which part of a datagram this is.
    pub part: Part,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Identification.
    pub id: u32,
    /// Where its payload begins in the datagram's, in bytes.
    pub offset: u16,
    /// Whether another part follows.
    pub more: bool,
}

impl Part {
    /// Whether it is not the whole datagram.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }
}

/// What an ICMP message is to a translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo request, whose identifier is its source port.
    Echo,
    /// An echo reply, whose identifier is its destination port.
    EchoReply,
    /// About a packet, whose beginning it holds.
    Error,
    /// None of these.
    Other,
}

/// An address family: everything in which IPv4 and IPv6 differ.
pub trait Network: Address {
    /// Whether this is IPv6.
    const IPV6: bool;
    /// EtherType as it is loaded natively.
    const ETHER_TYPE: u16;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Whether the family's ICMP checksum covers a pseudo-header (RFC 4443 section 2.3).
    const ICMP_PSEUDO_HEADER: bool;
    /// Bytes of the header without options and extension headers.
    const HEADER: usize;
    /// Smallest MTU a link may have, in bytes (RFC 791, RFC 8200 section 5).
    const LEAST_MTU: u16;

    /// Reads the header at `offset` of the frame.
    ///
    /// # Errors
    ///
    /// [`Reason::Malformed`], or [`Reason::ExtensionHeaders`].
    fn header<F: Frame>(frame: &F, offset: usize) -> Result<Header<Self>, Reason>;

    /// As [`Network::header`] for the commonest kind of packet: whole, without options and extension headers. What
    /// is of another kind or in any way wrong is none.
    fn plain<F: Frame>(frame: &F, offset: usize) -> Option<Header<Self>>;

    /// Writes both addresses and the hop limit, and updates the header's checksum where it has one;
    /// `change` is the sum's change by the addresses. Returns the change of the checksum field itself.
    ///
    /// # Safety
    ///
    /// `ip` must lead to the fixed part of a header, readable and writable.
    unsafe fn write(
        ip: *mut u8,
        source: Self,
        destination: Self,
        change: Delta,
        hop: bool,
    ) -> Delta;

    /// What an ICMP message of `kind` is.
    fn message(kind: u8) -> Message;
}

/// "More fragments" and the 13-bit offset of RFC 791's flags field.
const MORE: u16 = 0x2000;
/// See [`MORE`]; in units of eight bytes.
const OFFSET: u16 = 0x1fff;

macro_rules! field {
    ($header:ident, $type:ty, $name:ident) => {
        // SAFETY: the caller has bounds-checked the fixed header.
        unsafe { frame::read_field($header, offset_of!($type, $name)) }
    };
}

impl Network for V4 {
    const IPV6: bool = false;
    const ETHER_TYPE: u16 = 0x0800_u16.to_be();
    const ICMP: u8 = 1;
    const ICMP_PSEUDO_HEADER: bool = false;
    const HEADER: usize = Ipv4Hdr::LEN;
    const LEAST_MTU: u16 = 68;

    #[inline(always)]
    fn header<F: Frame>(frame: &F, offset: usize) -> Result<Header<Self>, Reason> {
        let ip: *const u8 = frame.at::<Ipv4Hdr>(offset).ok_or(Reason::Malformed)?.cast();
        // IHL counts words (RFC 791 section 3.1): 20 to 60 bytes with options.
        let version_and_length: u8 = field!(ip, Ipv4Hdr, vihl);
        let length = u16::from(version_and_length & 0xf) * 4;
        if version_and_length >> 4 != 4 || usize::from(length) < Ipv4Hdr::LEN {
            return Err(Reason::Malformed);
        }
        let total: u16 = field!(ip, Ipv4Hdr, tot_len);
        let fragment: u16 = field!(ip, Ipv4Hdr, frags);
        let fragment = u16::from_be(fragment);
        let id: u16 = field!(ip, Ipv4Hdr, id);
        Ok(Header {
            source: Self::from_raw(field!(ip, Ipv4Hdr, src_addr)),
            destination: Self::from_raw(field!(ip, Ipv4Hdr, dst_addr)),
            length,
            total: u32::from(u16::from_be(total)),
            protocol: field!(ip, Ipv4Hdr, proto),
            hops: field!(ip, Ipv4Hdr, ttl),
            tos: field!(ip, Ipv4Hdr, tos),
            part: Part {
                id: u32::from(id),
                offset: (fragment & OFFSET) << 3,
                more: fragment & MORE != 0,
            },
        })
    }

    #[inline(always)]
    fn plain<F: Frame>(frame: &F, offset: usize) -> Option<Header<Self>> {
        /// Version 4, five words.
        const PLAIN: u8 = 0x45;
        let ip: *const u8 = frame.at::<Ipv4Hdr>(offset)?.cast();
        let version_and_length: u8 = field!(ip, Ipv4Hdr, vihl);
        let fragment: u16 = field!(ip, Ipv4Hdr, frags);
        if version_and_length != PLAIN || fragment & (MORE | OFFSET).to_be() != 0 {
            return None;
        }
        let total: u16 = field!(ip, Ipv4Hdr, tot_len);
        Some(Header {
            source: Self::from_raw(field!(ip, Ipv4Hdr, src_addr)),
            destination: Self::from_raw(field!(ip, Ipv4Hdr, dst_addr)),
            length: Ipv4Hdr::LEN as u16,
            total: u32::from(u16::from_be(total)),
            protocol: field!(ip, Ipv4Hdr, proto),
            hops: field!(ip, Ipv4Hdr, ttl),
            tos: 0,
            part: Part::default(),
        })
    }

    #[inline(always)]
    unsafe fn write(
        ip: *mut u8,
        source: Self,
        destination: Self,
        change: Delta,
        hop: bool,
    ) -> Delta {
        let mut change = change;
        if hop {
            change = change.then(Delta::TTL_DECREMENT);
            let hops: u8 = field!(ip, Ipv4Hdr, ttl);
            // SAFETY: the caller's promise.
            unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, ttl), hops.wrapping_sub(1)) };
        }
        let old: u16 = field!(ip, Ipv4Hdr, check);
        let new = change.apply(old);
        // SAFETY: the caller's promise.
        unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, check), new) };
        // SAFETY: the caller's promise.
        unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, src_addr), source.raw()) };
        // SAFETY: the caller's promise.
        unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, dst_addr), destination.raw()) };
        Delta::of_word(old, new)
    }

    /// RFC 792, RFC 1812 section 4.3.
    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            8 => Message::Echo,
            0 => Message::EchoReply,
            3 | 4 | 11 | 12 => Message::Error,
            _ => Message::Other,
        }
    }
}

/// Extension headers that are walked over; packets with more are left to the kernel. RFC 8200 section 4.1
/// has seven kinds in its order, of which destination options may come twice.
pub const MAX_EXTENSIONS: usize = 6;
/// Bytes of extension headers that are walked over.
pub const MAX_EXTENSION_BYTES: u16 = 512;

/// Extension headers (IANA): hop-by-hop options.
const HOP_BY_HOP: u8 = 0;
/// See [`HOP_BY_HOP`].
const ROUTING: u8 = 43;
/// See [`HOP_BY_HOP`].
const FRAGMENT: u8 = 44;
/// See [`HOP_BY_HOP`].
const DESTINATION: u8 = 60;

impl Network for V6 {
    const IPV6: bool = true;
    const ETHER_TYPE: u16 = 0x86dd_u16.to_be();
    const ICMP: u8 = 58;
    const ICMP_PSEUDO_HEADER: bool = true;
    const HEADER: usize = Ipv6Hdr::LEN;
    const LEAST_MTU: u16 = 1280;

    #[inline(always)]
    fn header<F: Frame>(frame: &F, offset: usize) -> Result<Header<Self>, Reason> {
        let ip: *const u8 = frame.at::<Ipv6Hdr>(offset).ok_or(Reason::Malformed)?.cast();
        // Version, traffic class and flow label share the first word (RFC 8200 section 3).
        // SAFETY: bounds-checked above.
        let first: u32 = unsafe { frame::read_field(ip, 0) };
        let first = u32::from_be(first);
        if first >> 28 != 6 {
            return Err(Reason::Malformed);
        }
        let payload: u16 = field!(ip, Ipv6Hdr, payload_len);
        let mut header = Header {
            source: Self::from_raw(field!(ip, Ipv6Hdr, src_addr)),
            destination: Self::from_raw(field!(ip, Ipv6Hdr, dst_addr)),
            length: Ipv6Hdr::LEN as u16,
            total: u32::from(u16::from_be(payload)) + Ipv6Hdr::LEN as u32,
            protocol: field!(ip, Ipv6Hdr, next_hdr),
            hops: field!(ip, Ipv6Hdr, hop_limit),
            tos: (first >> 20) as u8,
            part: Part::default(),
        };
        if is_extension(header.protocol) {
            walk(frame, offset, &mut header)?;
        }
        Ok(header)
    }

    #[inline(always)]
    fn plain<F: Frame>(frame: &F, offset: usize) -> Option<Header<Self>> {
        let ip: *const u8 = frame.at::<Ipv6Hdr>(offset)?.cast();
        // SAFETY: bounds-checked above.
        let first: u8 = unsafe { frame::read_field(ip, 0) };
        if first >> 4 != 6 {
            return None;
        }
        let payload: u16 = field!(ip, Ipv6Hdr, payload_len);
        Some(Header {
            source: Self::from_raw(field!(ip, Ipv6Hdr, src_addr)),
            destination: Self::from_raw(field!(ip, Ipv6Hdr, dst_addr)),
            length: Ipv6Hdr::LEN as u16,
            total: u32::from(u16::from_be(payload)) + Ipv6Hdr::LEN as u32,
            protocol: field!(ip, Ipv6Hdr, next_hdr),
            hops: field!(ip, Ipv6Hdr, hop_limit),
            tos: 0,
            part: Part::default(),
        })
    }

    #[inline(always)]
    unsafe fn write(
        ip: *mut u8,
        source: Self,
        destination: Self,
        _change: Delta,
        hop: bool,
    ) -> Delta {
        if hop {
            let hops: u8 = field!(ip, Ipv6Hdr, hop_limit);
            // SAFETY: the caller's promise.
            unsafe { frame::write_field(ip, offset_of!(Ipv6Hdr, hop_limit), hops.wrapping_sub(1)) };
        }
        let at = offset_of!(Ipv6Hdr, src_addr);
        for (index, word) in source.raw().into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { frame::write_field(ip, at + index * 4, word) };
        }
        for (index, word) in destination.raw().into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { frame::write_field(ip, at + 16 + index * 4, word) };
        }
        Delta::NONE
    }

    /// RFC 4443 section 2.1: errors have the high bit clear.
    #[inline(always)]
    fn message(kind: u8) -> Message {
        match kind {
            128 => Message::Echo,
            129 => Message::EchoReply,
            1..=4 => Message::Error,
            _ => Message::Other,
        }
    }
}

/// Bounds the bytes of extension headers for the verifier: beyond what there can be before a walk ends.
const LENGTH_MASK: u16 = 0x0fff;

/// Walks over the extension headers behind the fixed header at `offset`.
#[inline(always)]
fn walk<F: Frame>(frame: &F, offset: usize, header: &mut Header<V6>) -> Result<(), Reason> {
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(header.protocol) {
            return Ok(());
        }
        if header.length > MAX_EXTENSION_BYTES {
            return Err(Reason::ExtensionHeaders);
        }
        let at = offset + usize::from(header.length);
        let start: *const u8 = frame.at::<u64>(at).ok_or(Reason::Malformed)?.cast();
        // SAFETY: `at` bounds-checked eight bytes.
        let [next, length, _, segments_left]: [u8; 4] = unsafe { frame::read_field(start, 0) };
        let mut bytes = (u16::from(length) + 1) * 8;
        match header.protocol {
            // With segments left the destination is not the last one (RFC 8200 section 4.4).
            ROUTING if segments_left != 0 => return Err(Reason::ExtensionHeaders),
            FRAGMENT => {
                // RFC 8200 section 4.5: offset and "more" are octets 2 and 3, the identification follows.
                // SAFETY: as above.
                let field: u16 = unsafe { frame::read_field(start, 2) };
                let field = u16::from_be(field);
                bytes = 8;
                header.part = Part {
                    // SAFETY: as above.
                    id: unsafe { frame::read_field(start, 4) },
                    offset: frame.forget(u32::from(field & !7)) as u16,
                    more: frame.forget(u32::from(field & 1)) & 1 != 0,
                };
            }
            _ => {}
        }
        let first = header.part.offset == 0;
        header.length = frame.forget(u32::from(header.length + bytes)) as u16 & LENGTH_MASK;
        header.protocol = frame.forget(u32::from(next)) as u8;
        if !first {
            // What follows is not a header.
            return Ok(());
        }
    }
    if is_extension(header.protocol) {
        return Err(Reason::ExtensionHeaders);
    }
    Ok(())
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}
