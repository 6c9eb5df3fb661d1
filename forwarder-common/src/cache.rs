//! The flow cache: what XDP needs to send packets of a flow in use, for each CPU its own.
//!
//! It is found by arithmetic instead of by a helper, and holds nothing that the flow table does not: packets and
//! bytes that were counted here are added to the flow's entry when the place is filled again, and readers of the
//! table add what is pending.

use core::mem::offset_of;

use crate::{
    address::{Address, V4, V6},
    flow::{Change, FlowKey, Rewrite, Route},
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

/// Jiffies for which a place serves before its flow is looked up again: four seconds at 1000 Hz, sixteen at 250.
pub const FRESH: u32 = 4096;

/// Jiffies without a packet after which a place may be filled by another flow: a quarter of a second at 1000 Hz, one
/// at 250.
pub const IN_USE: u32 = 256;

/// By how much userspace raises the epoch: more than the programs do, so that of two raises at the same moment either
/// changes it.
pub const EPOCH_STEP: u64 = 1 << 16;

/// A direction of a flow as its packets come in by one way: a place. For IPv4 a line of cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached<A> {
    /// Tuple of its packets.
    pub key: FlowKey<A>,
    /// [`crate::ethernet::Macs::proof`] of the way by which they come in and of [`Pending::stamp`]: it serves for no
    /// others. 0 for an empty place.
    pub proof: u32,
    /// As in the flow's entry.
    pub rewrite: Rewrite<A>,
    /// What it does to checksums.
    pub change: Change,
    /// As in the flow's entry.
    pub route: Route,
    /// As in the flow's entry.
    pub rule: u32,
    /// 1 for packets from the backend.
    pub is_reply: u32,
}

/// What has been counted in a place and not yet been added to the flow's entry. In a table of its own under the place's
/// number, so that what is written with every packet does not make places larger than a line of cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Bytes, as in the flow's entry.
    pub bytes: u64,
    /// Packets.
    pub packets: u32,
    /// `bpf_jiffies64` when the last of them came, low 32 bits.
    pub last_seen: u32,
    /// `bpf_jiffies64` when the place was filled, low 32 bits.
    pub since: u32,
    /// As in the flow's entry: by it a new flow of the same tuple is told from an old one.
    pub created: u32,
    /// Generation and epoch that the place was filled under, added up.
    pub stamp: u32,
    /// Zero. With it two of them are a line of cache.
    pub padding: u32,
}

impl<A: Address> Cached<A> {
    /// The place of `key` among two to the power of `bits`.
    #[inline(always)]
    pub fn place(key: &FlowKey<A>, bits: u32) -> u32 {
        // The primes of XXH64, and the golden ratio in 64 bits.
        const SOURCE: [u64; 2] = [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f];
        const DESTINATION: [u64; 2] = [0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63];
        const PORTS: u64 = 0x9e37_79b9_7f4a_7c15;
        let sum = key
            .source
            .scatter(SOURCE)
            .wrapping_add(key.destination.scatter(DESTINATION))
            .wrapping_add(
                (u64::from(key.protocol) << 32 | u64::from(key.ports())).wrapping_mul(PORTS),
            );
        (sum >> (64 - bits)) as u32
    }
}

const _: () = {
    assert!(size_of::<Cached<V4>>() == 64);
    assert!(offset_of!(Cached<V4>, rewrite) == 20);
    assert!(size_of::<Cached<V6>>() == 112);
    assert!(size_of::<Pending>() == 32);
};

// SAFETY: two integers of one size.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CacheState {}
// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Pending {}
// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for Cached<A> {}
