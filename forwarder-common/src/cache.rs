//! The flow cache: what XDP needs to send packets of a flow in use, for each CPU its own.
//!
//! It is found by arithmetic instead of by a helper, and holds nothing that the flow table does not: packets and
//! bytes that were counted here are added to the flow's entry when the place is filled again, and readers of the
//! table add what is pending.

use core::mem::offset_of;

use crate::{
    address::{Address, V4, V6},
    ethernet::Macs,
    flow::{FlowKey, Rewrite, Route},
};

/// What the caches of all CPUs have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheState {
    /// Raised when what places hold is no longer so.
    pub epoch: u64,
    /// Places for each CPU, as a power of two, from 1 to 31.
    pub bits: u64,
}

/// Jiffies for which a place serves before its flow is looked up again: a quarter of a second at 1000 Hz.
pub const FRESH: u32 = 256;

/// By how much userspace raises the epoch: more than the programs do, so that of two raises at the same moment either
/// changes it.
pub const EPOCH_STEP: u64 = 1 << 16;

/// A direction of a flow as its packets come in by one way.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached<A> {
    /// Tuple of its packets.
    pub key: FlowKey<A>,
    /// Generation and epoch under which this was noted, added up: it serves under no others. 0 for an empty place.
    pub stamp: u32,
    /// `bpf_jiffies64` when it was noted, low 32 bits.
    pub since: u32,
    /// The MAC addresses that its packets come with.
    pub arrival: Macs,
    /// Index of the device that they come in by.
    pub ingress: u32,
    /// As in the flow's entry.
    pub rewrite: Rewrite<A>,
    /// As in the flow's entry.
    pub route: Route,
    /// Bytes not yet added to the entry.
    pub bytes: u64,
    /// Packets not yet added to it.
    pub packets: u32,
    /// `bpf_jiffies64` when the last of them came, low 32 bits.
    pub last_seen: u32,
    /// As in the flow's entry.
    pub rule: u32,
    /// 1 for packets from the backend.
    pub is_reply: u32,
    /// As in the flow's entry: by it a new flow of the same tuple is told from an old one.
    pub created: u32,
    /// Zero. With it a place is two cache lines for IPv4.
    pub padding: [u32; 5],
}

impl<A: Address> Cached<A> {
    /// The place of `key` among two to the power of `bits`.
    #[inline(always)]
    pub fn place(key: &FlowKey<A>, bits: u32) -> u32 {
        let addresses = key.source.digest() ^ key.destination.digest().rotate_left(16);
        let tuple = u64::from(addresses) << 32 | u64::from(key.ports());
        // Fibonacci hashing: the golden ratio in 64 bits.
        (tuple.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)) as u32
    }
}

const _: () = {
    assert!(size_of::<Cached<V4>>() == 128);
    assert!(offset_of!(Cached<V4>, rewrite) == 40);
    assert!(size_of::<Cached<V6>>() == 176);
};

// SAFETY: two integers of one size.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CacheState {}
// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for Cached<A> {}
