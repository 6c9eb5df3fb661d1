//! The short way: packets of flows that this CPU has just sent packets of. See [`forwarder_common::cache`].

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use forwarder_common::{
    cache::{Cached, FRESH, IN_USE, Pending},
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

/// Of so many packets of a flow one tries to have a place that another flow has.
const PATIENCE: u32 = 8;

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
    let (cached, pending) = place::<A>(&packet.key)?;
    let now = pipeline::now() as u32;
    let known = cached.key == packet.key
        && cached.proof == packet.macs.proof(hook.ingress(), stamp(settings))
        && is_fresh(pending, now)
        && packet.length <= u32::from(cached.route.mtu);
    if !known {
        return None;
    }
    hook.commit(cached.rule, cached.is_reply == 0);
    let next = Hop::Next(cached.route.macs);
    rewrite::apply(hook, packet, &cached.rewrite, cached.change, next);
    pending.packets += 1;
    pending.bytes += u64::from(packet.length);
    pending.last_seen = now;
    account::traffic::<H>(cached.rule, cached.is_reply == 0, packet.length);
    Some(hook.send(&cached.route))
}

/// Notes the flow of a packet that is about to be sent by `flow`'s route, so that the next one goes the short way.
/// What the place had counted goes to the entry it belongs to. A flow in use keeps its place. `stamp` is what
/// [`stamp`] gave before the flow was looked up, so that a flow which has ended since is noted in vain.
#[inline(always)]
pub fn note<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    stamp: u32,
    now: u64,
) {
    let Some((cached, pending)) = place::<A>(&packet.key) else {
        return;
    };
    if cached.key == packet.key {
        settle(pending, flow);
    } else if cached.proof != 0 && !flow.packets_low.is_multiple_of(PATIENCE) {
        // It has no look at what is counted there, which is far away where there are many flows.
        return;
    } else if pending.stamp == stamp && is_in_use(pending, now as u32) {
        return;
    } else if pending.packets != 0
        && let Some(other) = lookup::entry(&cached.key)
    {
        settle(pending, other);
    }
    if !may_be_short(packet, flow) {
        cached.proof = 0;
        return;
    }
    *cached = Cached {
        key: packet.key,
        proof: packet.macs.proof(hook.ingress(), stamp),
        rewrite: flow.rewrite,
        change: flow.rewrite.change(&packet.key),
        route: flow.route,
        rule: flow.rule,
        is_reply: u32::from(!flow.is_original()),
    };
    *pending = Pending {
        bytes: 0,
        packets: 0,
        last_seen: now as u32,
        since: now as u32,
        created: flow.created,
        stamp,
        padding: 0,
    };
}

/// Whether the next packet of `flow` can do without the rest of the pipeline.
#[inline(always)]
fn may_be_short<A: Family>(packet: &Packet<A>, flow: &FlowEntry<A>) -> bool {
    // Until the client has completed the handshake, every packet of its may do so.
    let is_open =
        packet.transport == Transport::Udp || !flow.is_original() || flow.seen.has(Seen::CONFIRMED);
    is_open && flow.is_forwarded() && flow.proof != 0
}

/// What the cache says of flows is no longer so: some tuple is another flow's now.
#[inline(always)]
pub fn forget_all() {
    let state = CACHE_STATE.pointer();
    // SAFETY: a live record.
    let epoch = unsafe { &raw mut (*state).epoch };
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // SAFETY: a live map value.
    let value = unsafe { epoch.read_volatile() };
    // Not atomic: of two CPUs at the same moment the second one's raise hides the first one's, but it differs
    // from it, so what was noted between the two is no longer so either.
    // SAFETY: as above.
    unsafe { epoch.write_volatile(value + 1 + u64::from(cpu)) };
}

/// Adds what is pending to its flow's entry.
#[inline(always)]
fn settle<A: Family>(pending: &mut Pending, flow: &mut FlowEntry<A>) {
    if pending.packets != 0 && pending.created == flow.created {
        flow.count(pending.packets, pending.bytes);
        if (flow.last_seen.wrapping_sub(pending.last_seen) as i32) < 0 {
            flow.last_seen = pending.last_seen;
        }
    }
    pending.packets = 0;
    pending.bytes = 0;
}

#[inline(always)]
fn is_fresh(pending: &Pending, now: u32) -> bool {
    now.wrapping_sub(pending.since) < FRESH
}

#[inline(always)]
fn is_in_use(pending: &Pending, now: u32) -> bool {
    now.wrapping_sub(pending.last_seen) < IN_USE
}

/// Under what places serve now. Generation and epoch only ever rise, so no sum comes twice before one of them wraps.
#[inline(always)]
pub fn stamp(settings: &Settings) -> u32 {
    // SAFETY: a reference, read as the volatile value that userspace makes it.
    let generation = unsafe { (&raw const settings.generation).read_volatile() };
    generation.wrapping_add(CACHE_STATE.get().epoch as u32)
}

/// This CPU's place for `key`.
#[inline(always)]
fn place<A: Family>(key: &FlowKey<A>) -> Option<(&'static mut Cached<A>, &'static mut Pending)> {
    let bits = CACHE_STATE.get().bits as u32;
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let index = (cpu << bits) + Cached::place(key, bits);
    let (place, pending) = (A::CACHE.get_ptr_mut(index)?, A::PENDING.get_ptr_mut(index)?);
    // SAFETY: a live map value, which only this CPU writes; userspace reads it.
    let place = unsafe { &mut *place };
    // SAFETY: as above.
    Some((place, unsafe { &mut *pending }))
}
