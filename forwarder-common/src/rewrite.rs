//! Applying a flow's rewrite to a packet: the only code that changes packet bytes.

use core::mem::offset_of;

use network_types::ip::Ipv4Hdr;

use crate::{
    address::V4,
    checksum::Delta,
    flow::{Rewrite, Route},
    frame::{self, Frame},
    parse::Packet,
};

/// Writes new MACs, addresses, ports, TTL and checksums into `packet`, which was parsed from `frame`.
///
/// Nothing here can fail: every byte was bounds-checked while parsing. The transport checksum comes last
/// because updating it may move the frame.
#[inline(always)]
pub fn apply<F: Frame>(frame: &mut F, packet: &Packet, rewrite: &Rewrite<V4>, route: &Route) {
    // SAFETY: `parse` bounds-checked the Ethernet header, whose first twelve bytes are the MACs.
    unsafe { frame::write_words(packet.ethernet, route.macs.0) };
    write_ip(packet, rewrite);
    // SAFETY: `parse` bounds-checked both ports.
    unsafe { frame::write_field(packet.ports, 0, rewrite.source_port_be) };
    // SAFETY: as above.
    unsafe { frame::write_field(packet.ports, 2, rewrite.destination_port_be) };
    frame.update_transport_checksum(
        packet.transport,
        packet.transport_offset + packet.transport.checksum_offset(),
        rewrite.addresses,
        rewrite.ports,
    );
}

/// Addresses, TTL and header checksum. The TTL is decremented as RFC 1812 section 5.3.1 asks of whoever
/// forwards; the caller has seen that it is above 1.
#[inline(always)]
fn write_ip(packet: &Packet, rewrite: &Rewrite<V4>) {
    let ip = packet.ip;
    let delta = rewrite.addresses.then(Delta::TTL_DECREMENT);
    // SAFETY: `parse` bounds-checked the fixed header, so each field of it may be read and written.
    let check = unsafe { frame::read_field(ip, offset_of!(Ipv4Hdr, check)) };
    // SAFETY: as above.
    unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, check), delta.apply(check)) };
    // SAFETY: as above.
    unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, ttl), packet.ttl.wrapping_sub(1)) };
    // SAFETY: as above.
    unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, src_addr), rewrite.source.raw()) };
    // SAFETY: as above.
    unsafe { frame::write_field(ip, offset_of!(Ipv4Hdr, dst_addr), rewrite.destination.raw()) };
}
