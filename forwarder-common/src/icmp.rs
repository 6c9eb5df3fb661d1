//! ICMP errors: about a packet of ours, whose beginning they hold (RFC 792, RFC 4443, RFC 5508).

use crate::{
    checksum::Delta,
    flow::{Change, FlowKey, Rewrite},
    frame::{self, Frame, Transport},
    network::{Header, Message, Network},
    parse::{Facts, IDENTIFIER, Link, Packet, TCP, UDP},
    reason::Reason,
    tcp::Flags,
};

/// Bytes of the ICMP header, behind which the packet in question begins.
pub const ICMP_HEADER: usize = 8;
/// Bytes of the transport header that the packet in question has at least (RFC 792).
const LEAST: usize = 8;
/// An offset that no frame reaches and no quote comes near: a mask, for the verifier.
const NOWHERE: usize = 0x3fff;
/// Bounds where an ICMP header may begin, for the verifier.
const OFFSET_MASK: u32 = 0x0fff;
/// Offset of the checksum in an ICMP header.
pub const OUTER_CHECKSUM: usize = 2;

/// The packet that an ICMP error is about.
#[derive(Clone, Copy, Debug)]
pub struct Inner<A> {
    /// Who says so: the error's own source.
    pub outer_source: A,
    /// The inner IP header.
    pub ip: *mut u8,
    /// The inner transport header: eight bytes at least (RFC 792).
    pub segment: *mut u8,
    /// What it is.
    pub transport: Transport,
    /// Its checksum field, if that much of the packet is there.
    pub checksum: Option<*mut u16>,
}

/// Parses an ICMP error. The packet's key is that of packets which go the error's way: the inner packet's,
/// seen from the other end.
///
/// # Errors
///
/// [`Reason::Malformed`] if the error or the packet in it is cut short, [`Reason::NoRule`] if it is about a
/// packet that can be none of ours: of another host, of another protocol, or a later fragment.
#[inline(always)]
pub fn parse<A: Network, F: Frame>(
    frame: &F,
    link: &Link,
    outer: &Header<A>,
) -> Result<(Packet<A>, Inner<A>), Reason> {
    // However the outer header was found, to the verifier it is one way from here on.
    let offset = frame.forget(link.network as u32 + u32::from(outer.length)) & OFFSET_MASK;
    let offset = offset as usize;
    let icmp: *mut u8 = frame.at::<u64>(offset).ok_or(Reason::Malformed)?.cast();
    let at = offset + ICMP_HEADER;
    let header = A::header(frame, at)?;
    // Somebody else's packet: whoever reports it must report it to its sender.
    if header.source != outer.destination || header.part.offset != 0 {
        return Err(Reason::NoRule);
    }
    let ip = inner_ip::<A, F>(frame, at)?;
    let segment_offset = at + usize::from(header.length);
    // The frame may be longer than the packet, and what follows is under no checksum.
    let end = link.network + outer.total as usize;
    if segment_offset + LEAST > end {
        return Err(Reason::Malformed);
    }
    let segment: *mut u8 = frame
        .at::<u64>(segment_offset)
        .ok_or(Reason::Malformed)?
        .cast();
    // SAFETY: `at` bounds-checked eight bytes.
    let words: [u16; 4] = unsafe { frame::read_field(segment, 0) };
    let (transport, ports) = match header.protocol {
        TCP => (Transport::Tcp, [words[0], words[1]]),
        UDP => (Transport::Udp, [words[0], words[1]]),
        protocol if protocol == A::ICMP => {
            match A::message(words[0].to_ne_bytes()[0]) {
                Message::Echo => (Transport::Echo, [words[IDENTIFIER / 2], 0]),
                Message::EchoReply => (Transport::EchoReply, [0, words[IDENTIFIER / 2]]),
                // RFC 1122 section 3.2.2: no errors about errors.
                _ => return Err(Reason::NoRule),
            }
        }
        _ => return Err(Reason::NoRule),
    };
    let field = segment_offset + transport.checksum_offset();
    // To the verifier one way, not two.
    let field = if field + 2 <= end { field } else { NOWHERE };
    let field = frame.forget(field as u32) as usize & NOWHERE;
    let checksum = frame.at::<u16>(field);
    let key = FlowKey::new(
        header.source,
        header.destination,
        ports[0],
        ports[1],
        header.protocol,
    );
    let packet = Packet {
        key: key.reversed(),
        facts: Facts {
            transport,
            flags: Flags::NONE,
            hops: outer.hops,
            tos: outer.tos,
            length: outer.total,
            headers: outer.length + ICMP_HEADER as u16,
            macs: link.macs,
        },
        network: link.network,
        transport_offset: offset,
        ethernet: link.ethernet,
        ip: inner_ip::<A, F>(frame, link.network)?,
        segment: icmp,
    };
    let inner = Inner {
        outer_source: outer.source,
        ip,
        segment,
        transport,
        checksum,
    };
    Ok((packet, inner))
}

#[inline(always)]
fn inner_ip<A: Network, F: Frame>(frame: &F, offset: usize) -> Result<*mut u8, Reason> {
    let ip: Option<*mut u8> = match A::IPV6 {
        true => frame.at::<[u8; 40]>(offset).map(|ip| ip.cast()),
        false => frame.at::<[u8; 20]>(offset).map(|ip| ip.cast()),
    };
    ip.ok_or(Reason::Malformed)
}

impl<A: Network> Inner<A> {
    /// Writes `rewrite` in reverse into the inner transport header, and returns the change of the sum over
    /// all that was written. `inside` is what the rewrite does to checksums.
    #[inline(always)]
    pub(crate) fn write_segment(&self, rewrite: &Rewrite<A>, inside: Change) -> Delta {
        let (source, destination) = (rewrite.destination_port_be, rewrite.source_port_be);
        let mut covered = inside.addresses.then(inside.ports);
        match self.transport {
            Transport::Echo | Transport::EchoReply => {
                let identifier = match self.transport {
                    Transport::Echo => source,
                    _ => destination,
                };
                // SAFETY: `parse` bounds-checked eight bytes.
                unsafe { frame::write_field(self.segment, IDENTIFIER, identifier) };
                if !A::ICMP_PSEUDO_HEADER {
                    covered = inside.ports;
                }
            }
            _ => {
                // SAFETY: `parse` bounds-checked eight bytes.
                unsafe { frame::write_field(self.segment, 0, source) };
                // SAFETY: as above.
                unsafe { frame::write_field(self.segment, 2, destination) };
            }
        }
        let mut change = inside.ports;
        if let Some(field) = self.checksum {
            // SAFETY: `parse` bounds-checked it.
            let old: u16 = unsafe { frame::read(field) };
            let new = match self.transport {
                Transport::Udp => covered.apply_udp(old),
                _ => covered.apply(old),
            };
            // SAFETY: as above.
            unsafe { frame::write(field, new) };
            change = change.then(Delta::of_word(old, new));
        }
        change
    }
}
