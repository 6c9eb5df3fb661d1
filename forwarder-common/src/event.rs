//! What the programs tell of flows as they begin and end, through a ring buffer.

use core::mem::offset_of;

use crate::{
    address::{V4, V6},
    flow::FlowKey,
    stats::Traffic,
    tcp::Seen,
};

/// One event. Its size tells the family.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent<A> {
    /// `bpf_ktime_get_ns` when it happened.
    pub at: u64,
    /// What has come in the original direction; counts only if the event is [`CLOSED`].
    pub original: Traffic,
    /// What has come in the reply direction, likewise.
    pub reply: Traffic,
    /// Tuple of the packets from the client.
    pub original_key: FlowKey<A>,
    /// Tuple of the packets from the backend.
    pub reply_key: FlowKey<A>,
    /// [`crate::flow::FlowEntry::created`].
    pub created: u32,
    /// `bpf_jiffies64` when the last packet came, low 32 bits.
    pub last_seen: u32,
    /// Slot of the rule that made the flow.
    pub rule: u32,
    /// [`OPENED`], [`ESTABLISHED`] or [`CLOSED`].
    pub kind: u8,
    /// What the original direction has seen.
    pub original_seen: Seen,
    /// What the reply direction has seen.
    pub reply_seen: Seen,
    /// [`crate::flow::FlowEntry::flags`] of the original direction.
    pub flags: u8,
}

/// [`FlowEvent::kind`]: a flow was made. The kinds are single bits, so that a word says which are wanted.
pub const OPENED: u8 = 1;
/// [`FlowEvent::kind`]: TCP's handshake is complete, or the first reply has come.
pub const ESTABLISHED: u8 = 2;
/// [`FlowEvent::kind`]: a program has removed a flow, to make another of the same tuple.
pub const CLOSED: u8 = 4;

/// Bytes of the ring buffer: 40 thousand IPv4 events.
pub const RING: u32 = 1 << 22;

const _: () = {
    assert!(size_of::<FlowEvent<V4>>() == 88);
    assert!(offset_of!(FlowEvent<V4>, original_key) == 40);
    assert!(offset_of!(FlowEvent<V4>, created) == 72);
    assert!(size_of::<FlowEvent<V6>>() == 136);
    assert!(offset_of!(FlowEvent<V6>, created) == 120);
    assert!(align_of::<FlowEvent<V6>>() == 8);
};

// SAFETY: `repr(C)` over integers without padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl<A: crate::address::Address> aya::Pod for FlowEvent<A> {}
