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

/// What is counted of a rule that only watches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShadowKey {
    /// Slot of the rule.
    pub rule: u32,
    /// [`SHADOW_TRANSLATED`], or the [`crate::reason::Reason`] for which a packet would have been dropped.
    pub outcome: u32,
}

/// [`ShadowKey::outcome`]: packets would have been sent on.
pub const SHADOW_TRANSLATED: u32 = u32::MAX;

/// What a rule that only watches would have done with packets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowTraffic {
    /// By direction (original, reply).
    pub by_direction: [Traffic; 2],
    /// Flows opened.
    pub opened: u64,
}

/// Index of the fast path in [`RuleTraffic::by_hook`].
pub const HOOK_XDP: usize = 0;
/// Index of the slow path in [`RuleTraffic::by_hook`].
pub const HOOK_TC: usize = 1;

const _: () = {
    assert!(size_of::<RuleTraffic>() == 64);
    assert!(size_of::<ShadowKey>() == 8);
    assert!(size_of::<ShadowTraffic>() == 40);
};

// SAFETY: eight integers, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for RuleTraffic {}
// SAFETY: two integers, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ShadowKey {}
// SAFETY: five integers, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ShadowTraffic {}
