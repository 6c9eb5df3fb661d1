//! Counters, each in a per-CPU table.

/// Packets and bytes, counted from the IP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What one rule has forwarded: one cache line on every CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTraffic {
    /// By hook ([`HOOK_XDP`], [`HOOK_TC`]) and direction (original, reply).
    pub by_hook: [[Traffic; 2]; 2],
}

/// Index of the fast path in [`RuleTraffic::by_hook`].
pub const HOOK_XDP: usize = 0;
/// Index of the slow path in [`RuleTraffic::by_hook`].
pub const HOOK_TC: usize = 1;

const _: () = assert!(size_of::<RuleTraffic>() == 64);

// SAFETY: eight integers, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for RuleTraffic {}
