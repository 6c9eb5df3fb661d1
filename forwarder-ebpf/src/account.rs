//! Counting, in per-CPU tables.

use forwarder_common::{
    address::V4, flow::FlowEntry, frame::Transport, parse::Packet, reason::Reason, tcp::Seen,
};

use crate::{
    hook::Hook,
    maps::{REASONS, RULE_OPENED, RULE_TRAFFIC},
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
pub fn forwarded<H: Hook>(packet: &Packet, flow: &mut FlowEntry<V4>, now: u64) {
    let bytes = u64::from(packet.length);
    flow.packets += 1;
    flow.bytes += bytes;
    // The counters have dirtied this cache line anyway, so the time is written every packet.
    flow.last_seen = now as u32;
    flow.seen = flow.seen.and(said(packet, flow));
    if let Some(rule) = RULE_TRAFFIC.get_ptr_mut(flow.rule) {
        // SAFETY: `get_ptr_mut` returned this CPU's live map value.
        let by_direction = unsafe { &mut (*rule).by_hook[H::INDEX] };
        let [original, reply] = by_direction;
        let traffic = if flow.is_original() { original } else { reply };
        traffic.packets += 1;
        traffic.bytes += bytes;
    }
}

/// What `packet` says of its connection. The first reply confirms a UDP flow.
#[inline(always)]
fn said(packet: &Packet, flow: &FlowEntry<V4>) -> Seen {
    match packet.transport {
        Transport::Tcp => packet.flags.seen(),
        Transport::Udp if flow.is_original() => Seen::NONE,
        Transport::Udp => Seen::CONFIRMED,
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
