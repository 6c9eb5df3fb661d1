//! The short way: packets of flows that this CPU has just sent packets of. See [`forwarder_common::cache`].

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use forwarder_common::{
    cache::{Cached, Set},
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
    let cached = set::<A>(&packet.key)?.find(&packet.key)?;
    let known = cached.proof == packet.macs.proof(hook.ingress(), stamp(settings))
        && cached.count(packet.length, pipeline::now() as u32);
    if !known {
        return None;
    }
    hook.commit(cached.rule(), cached.is_original());
    let route = cached.route();
    let next = Hop::Next(route.macs);
    rewrite::apply(hook, packet, &cached.rewrite, cached.change, next);
    account::traffic::<H>(cached.rule(), cached.is_original(), packet.length);
    Some(hook.send(&route))
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
    let Some(set) = set::<A>(&packet.key) else {
        return;
    };
    let now = now as u32;
    let cached = match set.find(&packet.key) {
        Some(cached) => {
            cached.counted().settle(flow);
            cached
        }
        None => {
            let patient = flow.packets_low.is_multiple_of(PATIENCE);
            let Some(cached) = set.free(patient, now) else {
                return;
            };
            let counted = cached.counted();
            if counted.packets != 0
                && let Some(other) = lookup::entry(&cached.key())
            {
                counted.settle(other);
            }
            cached
        }
    };
    *cached = if may_be_short(packet, flow) {
        // The place counts from here on.
        flow.last_seen = now;
        let proof = packet.macs.proof(hook.ingress(), stamp);
        Cached::new(&packet.key, proof, flow, now)
    } else {
        Cached::default()
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

/// Adds what this CPU has pending of the flow of `key` to its entry, which is about to be removed.
#[inline(always)]
pub fn settle_own<A: Family>(key: &FlowKey<A>, flow: &mut FlowEntry<A>) {
    if let Some(set) = set(key)
        && let Some(cached) = set.find(key)
    {
        cached.counted().settle(flow);
        *cached = Cached::default();
    }
}

/// Under what places serve now. Generation and epoch only ever rise, so no sum comes twice before one of them wraps.
#[inline(always)]
pub fn stamp(settings: &Settings) -> u32 {
    // SAFETY: a reference, read as the volatile value that userspace makes it.
    let generation = unsafe { (&raw const settings.generation).read_volatile() };
    generation.wrapping_add(CACHE_STATE.get().epoch as u32)
}

/// This CPU's places for `key`.
#[inline(always)]
fn set<A: Family>(key: &FlowKey<A>) -> Option<&'static mut Set<A>> {
    let bits = CACHE_STATE.get().bits[A::IPV6 as usize];
    // SAFETY: the helper takes no argument.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let set = A::CACHE.get_ptr_mut((cpu << bits) + Set::number(key, bits))?;
    // SAFETY: a live map value, which only this CPU writes; userspace reads it.
    Some(unsafe { &mut *set })
}
