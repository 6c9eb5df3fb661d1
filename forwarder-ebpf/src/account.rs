//! Counting, in per-CPU tables.

use forwarder_common::{
    flow::FlowEntry,
    frame::Transport,
    parse::{Packet, TCP},
    reason::Reason,
    tcp::Seen,
};

use crate::{
    hook::Hook,
    maps::{Family, REASONS, RULE_OPENED, RULE_TRAFFIC},
};

/// Counts a packet that is not sent on.
#[inline(always)]
pub fn refused(reason: Reason) {
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: `get_ptr_mut` returned this CPU's live map value.
        unsafe { *count += 1 };
    }
}

/// Counts a packet that is sent on: in its flow, which also remembers when and what it said of the
/// connection, and in its rule. A packet that is not sent on has told its receiver nothing, so it changes no
/// state.
#[inline(always)]
pub fn forwarded<H: Hook, A: Family>(packet: &Packet<A>, flow: &mut FlowEntry<A>, now: u64) {
    met(packet, flow, now);
    traffic::<H>(flow.rule, flow.is_original(), packet.length);
}

/// Counts a packet in its flow, which also remembers when and what it said of the connection.
#[inline(always)]
pub fn met<A: Family>(packet: &Packet<A>, flow: &mut FlowEntry<A>, now: u64) {
    // The counters dirty this cache line anyway, so the time is written every packet.
    flow.last_seen = now as u32;
    flow.seen = flow.seen.and(said(packet, flow));
    flow.count(1, u64::from(packet.length));
}

/// Counts a packet that is sent on but is none of the connection's own: an ICMP error about it.
#[inline(always)]
pub fn carried<H: Hook, A: Family>(packet: &Packet<A>, flow: &mut FlowEntry<A>) {
    flow.count(1, u64::from(packet.length));
    traffic::<H>(flow.rule, flow.is_original(), packet.length);
}

/// Counts a packet of so many bytes in its rule.
#[inline(always)]
pub fn traffic<H: Hook>(rule: u32, is_original: bool, length: u32) {
    if let Some(rule) = RULE_TRAFFIC.get_ptr_mut(rule) {
        // SAFETY: `get_ptr_mut` returned this CPU's live map value.
        let by_direction = unsafe { &mut (*rule).by_hook[H::INDEX] };
        let [original, reply] = by_direction;
        let traffic = if is_original { original } else { reply };
        traffic.packets += 1;
        traffic.bytes += u64::from(length);
    }
}

/// What `packet` says of its connection. Without TCP the first reply confirms a flow.
#[inline(always)]
fn said<A: Family>(packet: &Packet<A>, flow: &FlowEntry<A>) -> Seen {
    match packet.transport {
        Transport::Tcp => packet.flags.seen(),
        _ if packet.key.protocol == TCP || flow.is_original() => Seen::NONE,
        _ => Seen::CONFIRMED,
    }
}

/// Counts a flow that `rule` has opened.
#[inline(always)]
pub fn opened(rule: u32) {
    if let Some(count) = RULE_OPENED.get_ptr_mut(rule) {
        // SAFETY: `get_ptr_mut` returned this CPU's live map value.
        unsafe { *count += 1 };
    }
}
