//! Applying a flow's rewrite to a packet: with [`crate::answer`] the only code that changes packet bytes.

use crate::{
    checksum::Delta,
    ethernet::Macs,
    flow::{Change, Rewrite},
    frame::{self, Frame, Transport},
    icmp::{Inner, OUTER_CHECKSUM},
    network::Network,
    parse::{IDENTIFIER, Packet},
};

/// How a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// To the next host: new MACs, and one hop less to go (RFC 1812 section 5.3.1).
    Next(Macs),
    /// To the first host, from this one: new MACs.
    First(Macs),
    /// Up to this host's stack, or down from it the way it was going.
    Own,
}

impl Hop {
    #[inline(always)]
    fn apply<A>(self, packet: &Packet<A>) -> bool {
        if let Self::Next(macs) | Self::First(macs) = self {
            // SAFETY: `parse` bounds-checked the Ethernet header, whose first twelve bytes are the MACs.
            unsafe { frame::write_words(packet.ethernet, macs.0) };
        }
        matches!(self, Self::Next(_))
    }
}

/// Writes new MACs, addresses, ports, hop limit and checksums into `packet`, which was parsed from `frame`. `change` is
/// what `rewrite` does to checksums of such packets.
///
/// Nothing here can fail: every byte was bounds-checked while parsing. The transport checksum comes last
/// because updating it may move the frame.
#[inline(always)]
pub fn apply<A: Network, F: Frame>(
    frame: &mut F,
    packet: &Packet<A>,
    rewrite: &Rewrite<A>,
    change: Change,
    hop: Hop,
) {
    let forwarded = hop.apply(packet);
    // SAFETY: `parse` bounds-checked the fixed header.
    unsafe {
        A::write(
            packet.ip,
            rewrite.source,
            rewrite.destination,
            change.addresses,
            forwarded,
        )
    };
    let segment = packet.segment;
    let mut addresses = change.addresses;
    match packet.transport {
        Transport::Tcp | Transport::Udp => {
            // SAFETY: `parse` bounds-checked both ports.
            unsafe { frame::write_field(segment, 0, rewrite.source_port_be) };
            // SAFETY: as above.
            unsafe { frame::write_field(segment, 2, rewrite.destination_port_be) };
        }
        Transport::Echo | Transport::EchoReply => {
            let identifier = match packet.transport {
                Transport::Echo => rewrite.source_port_be,
                _ => rewrite.destination_port_be,
            };
            // SAFETY: `parse` bounds-checked the identifier.
            unsafe { frame::write_field(segment, IDENTIFIER, identifier) };
            if !A::ICMP_PSEUDO_HEADER {
                addresses = Delta::NONE;
            }
        }
        Transport::Other | Transport::Tail => return,
    }
    frame.update_transport_checksum(
        packet.transport,
        packet.transport_offset + packet.transport.checksum_offset(),
        addresses,
        change.ports,
    );
}

/// Writes the translation into an ICMP error: `rewrite` is that of packets which go the error's way, so the
/// packet in it, which went the other way, gets it in reverse. The error's own source is translated where
/// that of the flow's packets is, so that what lies behind the gateway stays unseen.
#[inline(always)]
pub fn apply_error<A: Network, F: Frame>(
    frame: &mut F,
    packet: &Packet<A>,
    inner: &Inner<A>,
    rewrite: &Rewrite<A>,
    hop: Hop,
) {
    let forwarded = hop.apply(packet);
    let inside = rewrite.change(&packet.key);
    let source = if rewrite.source == packet.key.source {
        inner.outer_source
    } else {
        rewrite.source
    };
    let outer = inner
        .outer_source
        .change(source)
        .then(packet.key.destination.change(rewrite.destination));
    // SAFETY: `parse` bounds-checked the fixed header.
    unsafe { A::write(packet.ip, source, rewrite.destination, outer, forwarded) };
    // SAFETY: `icmp::parse` bounds-checked the inner one.
    let header = unsafe {
        A::write(
            inner.ip,
            rewrite.destination,
            rewrite.source,
            inside.addresses,
            false,
        )
    };
    let segment = inner.write_segment(rewrite, inside);
    let change = inside.addresses.then(header).then(segment);
    let pseudo = if A::ICMP_PSEUDO_HEADER {
        outer
    } else {
        Delta::NONE
    };
    frame.update_transport_checksum(
        Transport::Echo,
        packet.transport_offset + OUTER_CHECKSUM,
        pseudo,
        change,
    );
}
