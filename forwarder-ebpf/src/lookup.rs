//! From a packet to its flow entry.

use forwarder_common::{
    event::{CLOSED, ESTABLISHED},
    flow::{EMIT, ENDED, FlowEntry, FlowKey, SHADOW},
    frame::Transport,
    parse::{Packet, TCP},
    reason::Reason,
    stage::{Exit, Stage},
    tcp::Seen,
};

use crate::{cache, event, half_open, hook::Hook, maps::Family, reserve::IF_ABSENT, route};

/// `E2BIG`: what inserting into a full table gives (kernel/bpf/hashtab.c).
const FULL: i32 = -7;

/// Inserts `entry` if there is no `key` yet.
#[inline(always)]
pub fn reserve<A: Family>(key: &FlowKey<A>, entry: &FlowEntry<A>) -> Result<(), Reason> {
    match A::FLOWS.insert(key, entry, IF_ABSENT) {
        Ok(()) => Ok(()),
        Err(FULL) => Err(Reason::FlowTableFull),
        Err(_) => Err(Reason::Raced),
    }
}

/// Removes `key`, if it is there.
#[inline(always)]
pub fn remove<A: Family>(key: &FlowKey<A>) {
    // Absent is as good as removed.
    let _absent = A::FLOWS.remove(key);
}

/// The entry of `key`.
#[inline(always)]
pub fn entry<A: Family>(key: &FlowKey<A>) -> Option<&'static mut FlowEntry<A>> {
    let pointer = A::FLOWS.get_ptr_mut(key)?;
    // SAFETY: a live map value until the program ends. Another CPU may write it too, which the fields'
    // documentation allows for.
    Some(unsafe { &mut *pointer })
}

/// The flow that `packet` belongs to.
#[inline(always)]
pub fn flow<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
) -> Result<&'static mut FlowEntry<A>, Exit> {
    if let Some(flow) = entry(&packet.key) {
        check::<H, A>(flow)?;
        if !reopens(hook, packet, flow) {
            let flow = usable(flow)?;
            if packet.transport == Transport::Tcp && is_half_open(flow) {
                complete(hook, packet, flow);
            }
            return Ok(flow);
        }
    }
    Err(Exit::To(Stage::Open))
}

/// Checks that packets of `flow` are met at this hook: what this host itself sends is not to be had from
/// outside, and the other way round.
#[inline(always)]
pub fn check<H: Hook, A: Family>(flow: &FlowEntry<A>) -> Result<(), Exit> {
    if flow.has(EMIT) != H::EGRESS {
        return Err(Exit::Refused(Reason::NoRule));
    }
    Ok(())
}

#[inline(always)]
fn usable<A: Family>(flow: &'static mut FlowEntry<A>) -> Result<&'static mut FlowEntry<A>, Exit> {
    if flow.has(ENDED) && !flow.has(SHADOW) {
        return Err(Exit::Answered(Reason::FlowEnded));
    }
    Ok(flow)
}

/// Whether the frame is for this host. One that is not must not move or remove the flow whose tuple it has.
#[inline(always)]
fn is_ours<H: Hook, A: Family>(hook: &H, packet: &Packet<A>) -> bool {
    H::EGRESS || route::check_addressee(hook, packet).is_ok()
}

/// Whether `packet` begins anew on the tuple of a connection that has ended; the old flow is then gone, and
/// the rules decide about the new one.
#[inline(always)]
fn reopens<H: Hook, A: Family>(hook: &H, packet: &Packet<A>, flow: &mut FlowEntry<A>) -> bool {
    let begins = packet.flags.opens() || flow.has(ENDED) && packet.transport != Transport::Tcp;
    if !begins || !flow.is_original() || !is_ours(hook, packet) {
        return false;
    }
    let reply_key = flow.other_key(packet.key.protocol);
    let reply_closing = match entry(&reply_key) {
        Some(reply) => reply.seen.closing(),
        None => true,
    };
    if !flow.has(ENDED) && !flow.seen.closing() && !reply_closing {
        return false;
    }
    if event::is_wanted(CLOSED)
        && let Some(reply) = entry(&reply_key)
    {
        cache::settle_own(&packet.key, flow);
        cache::settle_own(&reply_key, reply);
        event::tell(CLOSED, &packet.key, flow, reply);
    }
    if packet.key.protocol == TCP && is_half_open(flow) {
        half_open::ended::<A>();
    }
    remove(&packet.key);
    remove(&reply_key);
    cache::forget_all();
    true
}

/// Whether `flow`, which is one of TCP, is the original direction of one whose handshake is not complete.
#[inline(always)]
fn is_half_open<A: Family>(flow: &FlowEntry<A>) -> bool {
    flow.is_original() && !flow.seen.has(Seen::CONFIRMED)
}

/// Notes that the handshake of `flow` is complete if `packet` is the client's answer to the server's SYN.
#[inline(always)]
fn complete<H: Hook, A: Family>(hook: &H, packet: &Packet<A>, flow: &mut FlowEntry<A>) {
    if !packet.flags.acknowledges() || !is_ours(hook, packet) {
        return;
    }
    if let Some(reply) = entry(&flow.other_key(packet.key.protocol))
        && reply.seen.has(Seen::SYN)
    {
        flow.seen = flow.seen.and(Seen::CONFIRMED);
        reply.seen = reply.seen.and(Seen::CONFIRMED);
        half_open::ended::<A>();
        if event::is_wanted(ESTABLISHED) {
            event::tell(ESTABLISHED, &packet.key, flow, reply);
        }
    }
}
