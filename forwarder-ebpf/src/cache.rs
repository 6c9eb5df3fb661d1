//! The short way: packets of flows that this CPU has just sent packets of. See [`forwarder_common::cache`].

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use forwarder_common::{
    cache::{CacheState, Cached, FRESH},
    flow::{FlowEntry, FlowKey},
    frame::Transport,
    parse::Packet,
    rewrite::{self, Hop},
    settings::Settings,
    tcp::Seen,
};

use crate::{
    account,
    hook::Hook,
    lookup,
    maps::{CACHE_STATE, Family},
    pipeline,
};

/// Sends a plain packet if its flow is in the cache. Else nothing has happened.
#[inline(always)]
pub fn run<H: Hook, A: Family>(
    hook: &mut H,
    packet: &Packet<A>,
    settings: &Settings,
) -> Option<i32> {
    if packet.hops <= 1 || packet.flags.changes_state() {
        return None;
    }
    let state = CACHE_STATE.get(0)?;
    let cached = place::<A>(state, &packet.key)?;
    let now = pipeline::now() as u32;
    let known = cached.key == packet.key
        && cached.arrival == packet.macs
        && cached.ingress == hook.ingress()
        && serves(cached, now, stamp(settings, state))
        && packet.length <= u32::from(cached.route.mtu);
    if !known {
        return None;
    }
    rewrite::apply(hook, packet, &cached.rewrite, Hop::Next(cached.route.macs));
    cached.packets += 1;
    cached.bytes += u64::from(packet.length);
    cached.last_seen = now;
    account::traffic::<H>(cached.rule, cached.is_reply == 0, packet.length);
    Some(hook.send(&cached.route))
}

/// Notes the flow of a packet that is about to be sent by `flow`'s route, so that the next one goes the short way.
/// What the place had counted goes to the entry it belongs to. A flow in use keeps its place.
#[inline(always)]
pub fn note<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
    now: u64,
) {
    let Some(state) = CACHE_STATE.get(0) else {
        return;
    };
    let Some(cached) = place::<A>(state, &packet.key) else {
        return;
    };
    let stamp = stamp(settings, state);
    if cached.key == packet.key {
        settle(cached, flow);
    } else if serves(cached, now as u32, stamp) {
        return;
    } else if cached.packets != 0
        && let Some(other) = lookup::entry(&cached.key)
    {
        settle(cached, other);
    }
    if !may_be_short(packet, flow, settings) {
        cached.stamp = 0;
        return;
    }
    cached.key = packet.key;
    cached.stamp = stamp;
    cached.since = now as u32;
    cached.arrival = packet.macs;
    cached.ingress = hook.ingress();
    cached.rewrite = flow.rewrite;
    cached.route = flow.route;
    cached.bytes = 0;
    cached.packets = 0;
    cached.rule = flow.rule;
    cached.created = flow.created;
    cached.is_reply = u32::from(!flow.is_original());
}

/// Whether the next packet of `flow` can do without the rest of the pipeline.
#[inline(always)]
fn may_be_short<A: Family>(packet: &Packet<A>, flow: &FlowEntry<A>, settings: &Settings) -> bool {
    // Until the client has completed the handshake, every packet of its may do so.
    let is_open =
        packet.transport == Transport::Udp || !flow.is_original() || flow.seen.has(Seen::CONFIRMED);
    is_open && flow.is_forwarded() && flow.route.generation == settings.generation
}

/// What the cache says of flows is no longer so: some tuple is another flow's now.
#[inline(always)]
pub fn forget_all() {
    if let Some(state) = CACHE_STATE.get_ptr_mut(0) {
        // SAFETY: a live map value.
        let epoch = unsafe { &raw mut (*state).epoch };
        // SAFETY: the helper takes no argument.
        let cpu = unsafe { bpf_get_smp_processor_id() };
        // SAFETY: as above.
        let value = unsafe { epoch.read_volatile() };
        // Not atomic: of two CPUs at the same moment the second one's raise hides the first one's, but it differs
        // from it, so what was noted between the two is no longer so either.
        // SAFETY: as above.
        unsafe { epoch.write_volatile(value + 1 + u64::from(cpu)) };
    }
}

/// Adds what `cached` has counted to its flow's entry.
#[inline(always)]
fn settle<A: Family>(cached: &mut Cached<A>, flow: &mut FlowEntry<A>) {
    if cached.packets != 0 && cached.created == flow.created {
        flow.packets += u64::from(cached.packets);
        flow.bytes += cached.bytes;
        if (flow.last_seen.wrapping_sub(cached.last_seen) as i32) < 0 {
            flow.last_seen = cached.last_seen;
        }
    }
    cached.packets = 0;
    cached.bytes = 0;
}

#[inline(always)]
fn serves<A>(cached: &Cached<A>, now: u32, stamp: u32) -> bool {
    cached.stamp == stamp && now.wrapping_sub(cached.since) < FRESH
}

/// Both only ever rise, so no sum comes twice before one of them wraps.
#[inline(always)]
fn stamp(settings: &Settings, state: &CacheState) -> u32 {
    settings.generation.wrapping_add(state.epoch as u32)
}

/// This CPU's place for `key`.
#[inline(always)]
fn place<A: Family>(state: &CacheState, key: &FlowKey<A>) -> Option<&'static mut Cached<A>> {
    let bits = state.bits as u32;
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let place = A::CACHE.get_ptr_mut((cpu << bits) + Cached::place(key, bits))?;
    // SAFETY: a live map value, which only this CPU writes; userspace reads it.
    Some(unsafe { &mut *place })
}
