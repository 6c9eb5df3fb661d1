//! Answering a proxy that asks where a connection was going: in place, back out of the device it came in by. See
//! [`forwarder_common::query`].

use forwarder_common::{
    address::V4,
    checksum::Delta,
    flow::FlowKey,
    frame::{self, Transport},
    network::{Header, Network as _},
    parse::{self, Facts, Link, Packet},
    query::{self, IDENT, LENGTH},
    reason::Reason,
    stage::{Exit, Stage},
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr, udp::UdpHdr};

use crate::{
    account,
    hook::Hook,
    last, lookup,
    maps::{self, Family, PROXIES, QUERIES, Scratch},
    route,
};

/// Bytes from the IP header to the end of a query, which has no options.
const WHOLE: usize = Ipv4Hdr::LEN + UdpHdr::LEN + LENGTH;
/// Hops of an answer.
const HOPS: u8 = 64;

/// Where a packet of no flow goes that is a query, or pretends to be one.
#[inline(always)]
pub fn claim<H: Hook, A: Family>(hook: &H, packet: &Facts, from: &FlowKey<A>) -> Option<Exit> {
    if A::IPV6 || H::EGRESS || packet.transport != Transport::Udp {
        return None;
    }
    let settings = QUERIES.get(0)?;
    if settings.port_be == 0 || settings.port_be != from.destination_port_be {
        return None;
    }
    if PROXIES.get_ptr(from.source.words()[0]).is_some() {
        return Some(Exit::To(Stage::Query));
    }
    // What goes on to others is none of ours.
    A::OWN.get_ptr(from.destination)?;
    route::check_addressee(hook, packet).ok()?;
    Some(Exit::Refused(Reason::QueryStranger))
}

/// Answers the query, or says why not.
#[inline(always)]
pub fn run<H: Hook>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let header: Header<V4> = parse::header(hook, link)?;
    if header.part.is_fragment() || header.total as usize != WHOLE {
        return Err(Exit::Refused(Reason::QueryMalformed));
    }
    let packet: Packet<V4> = parse::packet(hook, link, &header)?;
    if usize::from(header.length) != Ipv4Hdr::LEN {
        return Err(Exit::Refused(Reason::QueryMalformed));
    }
    let flags = route::check_addressee(hook, &packet)?.flags;
    // Either is a constant, so that the verifier knows where the header is.
    let at = match link.tag {
        Some(_) => EthHdr::LEN + parse::TAG + WHOLE - LENGTH,
        None => EthHdr::LEN + WHOLE - LENGTH,
    };
    let place = hook.at::<[u8; WHOLE]>(at + LENGTH - WHOLE);
    let ip: *mut u8 = place.ok_or(Reason::Malformed)?.cast();
    // SAFETY: `at` bounds-checked the whole datagram.
    let payload = unsafe { ip.add(Ipv4Hdr::LEN + UdpHdr::LEN) };
    let settings = QUERIES.get(0).ok_or(Reason::Raced)?;
    // SAFETY: as above.
    let key = unsafe { query::read(payload, packet.key.source, settings) }?;
    let scratch = maps::scratch()?;
    let reason = match known(&key, scratch) {
        true => Reason::QueryAnswered,
        false => Reason::QueryUnknown,
    };
    account::refused(reason);
    last::remember(hook, reason);
    let before = sum(hook, at, payload).ok_or(Reason::Malformed)?;
    // SAFETY: a live map value; the text has as many bytes.
    let name = unsafe { &*(&raw const scratch.ident).cast::<[u32; IDENT / 4]>() };
    if reason == Reason::QueryAnswered {
        // SAFETY: `at` bounds-checked the whole datagram.
        unsafe { query::write_found(payload, &scratch.known, name) };
    } else {
        // SAFETY: as above.
        unsafe { query::write_unknown(payload) };
    }
    let after = sum(hook, at, payload).ok_or(Reason::Malformed)?;
    turn(link, ip, &packet);
    let change = Delta::of_sum(u64::from(!before) + u64::from(after));
    let field = packet.network + Ipv4Hdr::LEN + Transport::Udp.checksum_offset();
    hook.update_transport_checksum(Transport::Udp, field, Delta::NONE, change);
    Ok(hook.bounce(flags))
}

/// Whether `key` is of replies of a flow. Then what becomes of them, and its client's name, are in `scratch`, and no pointer
/// has to be told from none later, which compilers do in ways that the verifier refuses.
#[inline(always)]
fn known(key: &FlowKey<V4>, scratch: &mut Scratch) -> bool {
    let Some(flow) = lookup::entry(key) else {
        return false;
    };
    if flow.is_original() {
        return false;
    }
    scratch.known = flow.rewrite;
    query::ident(scratch.known.destination, &mut scratch.ident);
    true
}

/// Sends it back: addresses, ports and MACs exchanged, which no sum minds, and hops as of this host.
#[inline(always)]
fn turn(link: &Link, ip: *mut u8, packet: &Packet<V4>) {
    let key = packet.key.reversed();
    // SAFETY: the caller has bounds-checked the IP and UDP headers.
    unsafe { V4::write(ip, key.source, key.destination, hops(packet.hops), false) };
    // SAFETY: as above; the time to live is octet 8.
    unsafe { frame::write_field(ip, 8, HOPS) };
    // SAFETY: as above.
    unsafe { frame::write_field(ip, Ipv4Hdr::LEN, key.source_port_be) };
    // SAFETY: as above.
    unsafe { frame::write_field(ip, Ipv4Hdr::LEN + 2, key.destination_port_be) };
    // SAFETY: `parse::link` has bounds-checked the Ethernet header.
    unsafe { frame::write_words(link.ethernet, link.macs.swapped().0) };
}

/// The change of the header's sum by other hops.
#[inline(always)]
fn hops(old: u8) -> Delta {
    // They share a word with the protocol, which stays.
    Delta::of_word(u16::from_ne_bytes([old, 0]), u16::from_ne_bytes([HOPS, 0]))
}

/// The sum of the datagram's words.
#[inline(always)]
fn sum<H: Hook>(hook: &H, at: usize, payload: *const u8) -> Option<u16> {
    /// A multiple of four, as the helper wants.
    const MOST: usize = LENGTH & !3;
    // SAFETY: the caller has bounds-checked the whole datagram.
    let last: u16 = unsafe { frame::read_field(payload, MOST) };
    Some(fold(u64::from(hook.sum::<MOST>(at)?) + u64::from(last)))
}

/// A sum in sixteen bits.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    Delta::of_sum(sum).raw()
}
