//! Telling userspace of flows that begin and end, if it wants to know.
//!
//! What happens to the flow does not depend on it: an event that the ring has no room for is counted and lost. All of it
//! is written where it is in the ring, since the main programs have no room for it on their stack.

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_ns};
use forwarder_common::{
    event::FlowEvent,
    flow::{FlowEntry, FlowKey},
};

use crate::maps::{EVENT_KINDS, EVENTS, EVENTS_LOST, Family};

/// Whether anybody wants events of this kind.
#[inline(always)]
pub fn is_wanted(kind: u8) -> bool {
    // SAFETY: a live record, read as the volatile value that userspace makes it.
    let wanted = unsafe { EVENT_KINDS.pointer().read_volatile() };
    wanted & u32::from(kind) != 0
}

/// Tells of an event that is wanted, of the flow with these entries; `key` is that of its original direction.
#[inline(always)]
pub fn tell<A: Family>(kind: u8, key: &FlowKey<A>, original: &FlowEntry<A>, reply: &FlowEntry<A>) {
    write(kind, original, |event| {
        event.original_key = *key;
        event.reply_key = original.other_key(key.protocol);
        event.original.packets = original.packets();
        event.original.bytes = original.bytes;
        event.reply.packets = reply.packets();
        event.reply.bytes = reply.bytes;
        event.original_seen = original.seen;
        event.reply_seen = reply.seen;
        if (reply.last_seen.wrapping_sub(original.last_seen) as i32) > 0 {
            event.last_seen = reply.last_seen;
        }
    });
}

/// The same when only the entry of the reply direction is at hand, under `key`, and nothing that was counted matters.
#[inline(always)]
pub fn tell_of_reply<A: Family>(kind: u8, key: &FlowKey<A>, reply: &FlowEntry<A>) {
    write(kind, reply, |event| {
        event.original_key = reply.other_key(key.protocol);
        event.reply_key = *key;
        event.original.packets = 0;
        event.original.bytes = 0;
        event.reply.packets = 0;
        event.reply.bytes = 0;
        event.original_seen = reply.seen;
        event.reply_seen = reply.seen;
    });
}

/// What is the same in every event; `complete` writes the rest.
#[inline(always)]
fn write<A: Family>(kind: u8, entry: &FlowEntry<A>, complete: impl FnOnce(&mut FlowEvent<A>)) {
    let Some(mut room) = EVENTS.reserve::<FlowEvent<A>>(0) else {
        if let Some(lost) = EVENTS_LOST.get_ptr_mut(0) {
            // SAFETY: `get_ptr_mut` returned this CPU's live map value.
            unsafe { *lost += 1 };
        }
        return;
    };
    // SAFETY: integers only, so that any bits are an event; none is read before it is written.
    let event = unsafe { room.assume_init_mut() };
    // SAFETY: the helper takes no argument and only reads a clock.
    event.at = unsafe { bpf_ktime_get_ns() };
    event.kind = kind;
    event.created = entry.created;
    event.last_seen = entry.last_seen;
    event.rule = entry.rule;
    event.flags = entry.flags;
    complete(event);
    // The reader looks by itself: waking it for each event would cost more than all the rest.
    room.submit(u64::from(BPF_RB_NO_WAKEUP));
}
