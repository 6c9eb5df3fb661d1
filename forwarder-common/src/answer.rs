//! Messages to the sender of a packet that is not sent on: ICMP errors, and TCP's RST.

use crate::{
    address::{Address, V4, V6},
    ethernet::Macs,
    flow::FlowKey,
    frame::{self, Frame},
    network::Network,
    parse::{Packet, TAG, TCP, Tag},
    reason::Reason,
    tcp::Flags,
};

/// What the sender is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The hop limit ran out.
    TimeExceeded,
    /// The packet is larger than this many bytes.
    TooBig(u16),
    /// An operator's limit is in the way.
    Prohibited,
    /// There is no such connection.
    Reset,
}

impl Answer {
    /// What is said for `reason` to the sender of a packet, TCP or not, that would have had to be at most
    /// `mtu` bytes.
    #[inline(always)]
    pub const fn to(reason: Reason, tcp: bool, mtu: u16) -> Option<Self> {
        match reason {
            Reason::TtlExpired => Some(Self::TimeExceeded),
            Reason::TooBig => Some(Self::TooBig(mtu)),
            Reason::PortsExhausted if !tcp => Some(Self::Prohibited),
            Reason::PortsExhausted | Reason::TcpNoFlow | Reason::FlowEnded if tcp => {
                Some(Self::Reset)
            }
            _ => None,
        }
    }

    /// Type, code and the four bytes behind the checksum (RFC 792, RFC 1191, RFC 1812 section 5.2.7.1;
    /// RFC 4443 section 3).
    #[inline(always)]
    const fn icmp<A: Network>(self) -> (u8, u8, u32) {
        match (self, A::IPV6) {
            (Self::TimeExceeded, false) => (11, 0, 0),
            (Self::TimeExceeded, true) => (3, 0, 0),
            (Self::TooBig(mtu), false) => (3, 4, mtu as u32),
            (Self::TooBig(mtu), true) => (2, 0, mtu as u32),
            (_, false) => (3, 13, 0),
            (_, true) => (1, 1, 0),
        }
    }
}

/// Bytes of an ICMP header.
const ICMP: usize = 8;
/// Hops that an answer may take (RFC 1700 "IP TIME TO LIVE PARAMETER").
const HOPS: u8 = 64;

/// A one's-complement sum of natively loaded words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// With a word.
    #[inline(always)]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// With two words.
    #[inline(always)]
    pub const fn long(self, long: u32) -> Self {
        Self(self.0 + long as u64)
    }

    /// Folded to 16 bits.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        sum = (sum & 0xffff) + (sum >> 16);
        ((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// The pseudo-header of `length` bytes of `protocol` (RFC 793 section 3.1, RFC 8200 section 8.1).
    #[inline(always)]
    pub fn pseudo<A: Address>(key: &FlowKey<A>, protocol: u8, length: u32) -> Self {
        let addresses = A::default()
            .change(key.source)
            .then(A::default().change(key.destination));
        Self::default()
            .word(addresses.raw())
            .long(u32::from(protocol).to_be())
            .long(length.to_be())
    }
}

/// Bytes in front of the quoted packet: an IP and an ICMP header.
pub const fn room<A: Network>() -> usize {
    A::HEADER + ICMP
}

/// Bytes of the packet that an ICMP error quotes: RFC 1812 section 4.3.2.3 allows 576 for the whole, RFC
/// 4443 section 2.4 the least MTU. In whole words, so that they are easily summed.
#[inline(always)]
pub fn quote<A: Network>(length: u32) -> u32 {
    let most = if A::IPV6 { 1280 } else { 576 } - room::<A>() as u32;
    (if length < most { length } else { most }) & !3
}

/// More than the bytes of any quote.
const MASK: u32 = 0x7ff;

/// The sum over the `quote` bytes from `offset` of the frame on.
///
/// `checksum` is where the transport checksum stands in the quote. A field that holds no more than the
/// pseudo-header's sum was left for the device to finish, and what follows the IP header will then sum up
/// to the complement of that, whatever it is.
#[inline(always)]
pub fn sum_quote<F: Frame>(
    frame: &F,
    offset: usize,
    quote: u32,
    unfinished: Option<(usize, u16)>,
) -> Option<Sum> {
    let end = match unfinished {
        Some((header, _)) => header as u32,
        None => quote,
    };
    let mut sum = Sum::default();
    let mut done = 0;
    macro_rules! add {
        ($($bytes:literal)*) => {$(
            if end - done >= $bytes {
                sum = sum.long(frame.sum::<$bytes>(offset + done as usize)?);
                done += $bytes;
                // Bounded by a mask, as the longest quote bounds it.
                done = frame.forget(done) & MASK;
            }
        )*};
    }
    add!(512 512 256 128 64 32 16 8 4);
    let _rest = done;
    if let Some((_, seed)) = unfinished {
        sum = sum.word(!seed);
    }
    Some(sum)
}

/// How the answer's frame begins: back to where the packet came from.
#[derive(Clone, Copy, Debug)]
pub struct Back {
    /// The MAC addresses that the packet came with.
    pub macs: Macs,
    /// Its tag.
    pub tag: Option<Tag>,
}

impl Back {
    /// Writes the beginning of the frame; `None` if there is no room for it.
    #[inline(always)]
    fn write<A: Network, F: Frame>(self, frame: &F) -> Option<usize> {
        let ethernet = frame.at::<[u32; 3]>(0)?;
        // SAFETY: `at` bounds-checked twelve bytes.
        unsafe { frame::write_words(ethernet.cast(), self.macs.swapped().0) };
        let mut at = 12;
        if let Some(tag) = self.tag {
            put(frame, at, tag.protocol)?;
            put(frame, at + 2, tag.id.to_be())?;
            at += TAG;
        }
        put(frame, at, A::ETHER_TYPE)?;
        Some(at + 2)
    }
}

#[inline(always)]
fn put<T: Copy, F: Frame>(frame: &F, offset: usize, value: T) -> Option<()> {
    let to = frame.at::<T>(offset)?;
    // SAFETY: `at` bounds-checked it.
    unsafe { frame::write(to, value) };
    Some(())
}

/// What an ICMP error says to whom.
#[derive(Clone, Copy, Debug)]
pub struct Notice<A> {
    /// What.
    pub answer: Answer,
    /// From whom: an own address.
    pub from: A,
    /// To whom: the source of the packet in question.
    pub to: A,
    /// How the frame begins.
    pub back: Back,
    /// Bytes of the packet that it quotes.
    pub quote: u32,
    /// Their sum.
    pub sum: Sum,
}

/// Writes an ICMP error in front of the packet it is about, which begins [`room`] bytes behind the new IP
/// header. `None` if the frame is too short for it, which it never is.
#[inline(always)]
pub fn write_error<A: Writer, F: Frame>(frame: &F, notice: &Notice<A>) -> Option<()> {
    let ip = notice.back.write::<A, F>(frame)?;
    let key = FlowKey::new(notice.from, notice.to, 0, 0, A::ICMP);
    let length = notice.quote + ICMP as u32;
    A::put_header(frame, ip, &key, length)?;
    let (kind, code, rest) = notice.answer.icmp::<A>();
    let first = u16::from_ne_bytes([kind, code]);
    let mut sum = notice.sum.word(first).long(rest.to_be());
    if A::ICMP_PSEUDO_HEADER {
        sum = sum.word(Sum::pseudo(&key, A::ICMP, length).fold());
    }
    let icmp = ip + A::HEADER;
    put(frame, icmp, first)?;
    put(frame, icmp + 2, !sum.fold())?;
    put(frame, icmp + 4, rest.to_be())
}

/// The numbers of a TCP segment that is answered.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    sequence: u32,
    acknowledgment: u32,
    acknowledges: bool,
    length: u32,
    unfinished: bool,
}

/// Bytes of a TCP header without options.
const TCP_HEADER: u32 = 20;

/// Length of a RST's packet.
pub const fn reset_length<A: Network>() -> u32 {
    A::HEADER as u32 + TCP_HEADER
}

impl Segment {
    /// Reads the segment that `packet` is. `None` for a RST, which is never answered, and for a packet with
    /// IP options or extension headers, in whose place a RST does not fit.
    #[inline(always)]
    pub fn read<A: Network, F: Frame>(frame: &F, packet: &Packet<A>) -> Option<Self> {
        let header = packet.transport_offset - packet.network;
        if packet.flags.resets() || header != A::HEADER {
            return None;
        }
        // Bounds-checked anew: old verifiers forget which packets were seen to be TCP.
        let offset = frame.forget(packet.transport_offset as u32) & MASK;
        let segment: *const u8 = frame
            .at::<[u8; TCP_HEADER as usize]>(offset as usize)?
            .cast();
        // SAFETY: `at` bounds-checked twenty bytes.
        let sequence: u32 = unsafe { frame::read_field(segment, 4) };
        // SAFETY: as above.
        let acknowledgment: u32 = unsafe { frame::read_field(segment, 8) };
        // SAFETY: as above.
        let check: u16 = unsafe { frame::read_field(segment, 16) };
        let payload = packet.length - u32::from(packet.headers);
        let pseudo = Sum::pseudo(&packet.key, TCP, packet.length - header as u32);
        Some(Self {
            sequence: u32::from_be(sequence),
            acknowledgment,
            acknowledges: packet.flags.has_ack(),
            length: payload + packet.flags.sequence_space(),
            unfinished: check == pseudo.fold(),
        })
    }
}

/// Writes a RST (RFC 9293 section 3.10.7.1) over the beginning of a frame. `None` if that is too short.
#[inline(always)]
pub fn write_reset<A: Writer, F: Frame>(
    frame: &F,
    segment: &Segment,
    key: &FlowKey<A>,
    back: Back,
) -> Option<()> {
    let ip = back.write::<A, F>(frame)?;
    A::put_header(frame, ip, key, TCP_HEADER)?;
    let (sequence, acknowledgment, flags) = if segment.acknowledges {
        (segment.acknowledgment, 0, Flags::RESET)
    } else {
        let next = segment.sequence.wrapping_add(segment.length);
        (0, next.to_be(), Flags::RESET_ACK)
    };
    // The data offset, five words, and the flags.
    let control = u16::from_ne_bytes([5 << 4, flags]);
    let pseudo = Sum::pseudo(key, TCP, TCP_HEADER);
    let sum = pseudo
        .word(key.source_port_be)
        .word(key.destination_port_be)
        .long(sequence)
        .long(acknowledgment)
        .word(control);
    let check = if segment.unfinished {
        pseudo.fold()
    } else {
        !sum.fold()
    };
    let tcp = ip + A::HEADER;
    put(frame, tcp, key.source_port_be)?;
    put(frame, tcp + 2, key.destination_port_be)?;
    put(frame, tcp + 4, sequence)?;
    put(frame, tcp + 8, acknowledgment)?;
    put(frame, tcp + 12, control)?;
    put(frame, tcp + 14, 0_u16)?;
    put(frame, tcp + 16, check)?;
    put(frame, tcp + 18, 0_u16)
}

/// An address family whose headers can be written.
pub trait Writer: Network {
    /// Writes a header for `length` bytes of `key`'s protocol at `offset`.
    fn put_header<F: Frame>(
        frame: &F,
        offset: usize,
        key: &FlowKey<Self>,
        length: u32,
    ) -> Option<()>;
}

impl Writer for V4 {
    #[inline(always)]
    fn put_header<F: Frame>(
        frame: &F,
        offset: usize,
        key: &FlowKey<Self>,
        length: u32,
    ) -> Option<()> {
        /// Version 4, five words; nothing special about its service.
        const FIRST: u16 = 0x4500_u16.to_be();
        /// Do not fragment (RFC 6864: then the identification does not matter).
        const FRAGMENTS: u16 = 0x4000_u16.to_be();
        let total = (length as u16 + Self::HEADER as u16).to_be();
        let hops = u16::from_ne_bytes([HOPS, key.protocol]);
        let sum = Sum::default()
            .word(FIRST)
            .word(total)
            .word(FRAGMENTS)
            .word(hops)
            .long(key.source.raw())
            .long(key.destination.raw());
        put(frame, offset, FIRST)?;
        put(frame, offset + 2, total)?;
        put(frame, offset + 4, 0_u16)?;
        put(frame, offset + 6, FRAGMENTS)?;
        put(frame, offset + 8, hops)?;
        put(frame, offset + 10, !sum.fold())?;
        put(frame, offset + 12, key.source.raw())?;
        put(frame, offset + 16, key.destination.raw())
    }
}

impl Writer for V6 {
    #[inline(always)]
    fn put_header<F: Frame>(
        frame: &F,
        offset: usize,
        key: &FlowKey<Self>,
        length: u32,
    ) -> Option<()> {
        put(frame, offset, 0x6000_0000_u32.to_be())?;
        put(frame, offset + 4, (length as u16).to_be())?;
        put(frame, offset + 6, u16::from_ne_bytes([key.protocol, HOPS]))?;
        for (index, word) in key.source.raw().into_iter().enumerate() {
            put(frame, offset + 8 + index * 4, word)?;
        }
        for (index, word) in key.destination.raw().into_iter().enumerate() {
            put(frame, offset + 24 + index * 4, word)?;
        }
        Some(())
    }
}
