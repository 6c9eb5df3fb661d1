//! Applying a flow's rewrite to a packet: the only code that changes packet bytes.

use crate::{
    address::V4,
    checksum::Delta,
    flow::{Rewrite, Route},
    frame::Frame,
    parse::Packet,
};

/// Writes new MACs, addresses, ports, TTL and checksums into `packet`, which was parsed from `frame`.
///
/// Nothing here can fail: every byte was bounds-checked while parsing. The transport checksum comes last
/// because updating it may move the frame.
#[inline(always)]
pub fn apply<F: Frame>(frame: &mut F, packet: &Packet, rewrite: &Rewrite<V4>, route: &Route) {
    write_ethernet(packet, route);
    write_ip(packet, rewrite);
    let [s0, s1] = rewrite.source_port_be.to_ne_bytes();
    let [d0, d1] = rewrite.destination_port_be.to_ne_bytes();
    // SAFETY: `parse` bounds-checked both ports.
    unsafe { packet.ports.write([s0, s1, d0, d1]) };
    frame.update_transport_checksum(
        packet.transport,
        packet.transport_offset + packet.transport.checksum_offset(),
        rewrite.addresses,
        rewrite.ports,
    );
}

#[inline(always)]
fn write_ethernet(packet: &Packet, route: &Route) {
    // SAFETY: `parse` bounds-checked the Ethernet header.
    unsafe { (&raw mut (*packet.ethernet).dst_addr).write(route.next_hop) };
    // SAFETY: as above.
    unsafe { (&raw mut (*packet.ethernet).src_addr).write(route.own) };
}

/// Addresses, TTL and header checksum. The TTL is decremented as RFC 1812 section 5.3.1 asks of whoever
/// forwards; the caller has seen that it is above 1.
#[inline(always)]
fn write_ip(packet: &Packet, rewrite: &Rewrite<V4>) {
    // SAFETY: `parse` bounds-checked the fixed header.
    let mut header = unsafe { packet.ip.read() };
    header.ttl = header.ttl.wrapping_sub(1);
    let delta = rewrite.addresses.then(Delta::TTL_DECREMENT);
    header.check = delta
        .apply(u16::from_ne_bytes(header.check))
        .to_ne_bytes();
    header.src_addr = rewrite.source.octets();
    header.dst_addr = rewrite.destination.octets();
    // SAFETY: as above.
    unsafe { packet.ip.write(header) };
}
