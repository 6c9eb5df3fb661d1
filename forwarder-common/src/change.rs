//! What userspace remembers of rules that have changed, so that a restarted daemon goes on where its predecessor was.
//!
//! The programs read none of it.

/// What a rule's file said of its flows when the rule changes, by slot: that of a rule which is gone is still asked for.
pub type OnChange = u32;

/// [`OnChange`]: nothing, so what is usual for the change.
pub const USUAL: OnChange = 0;
/// [`OnChange`]: they live to their end.
pub const KEEP: OnChange = 1;
/// [`OnChange`]: they live to their end or to a limit.
pub const DRAIN: OnChange = 2;
/// [`OnChange`]: they end at once.
pub const KILL: OnChange = 3;

/// Most flows of a family that can be on record as such; a table without entries takes two megabytes.
pub const MOST_DRAINED: u32 = 1 << 17;

/// A flow that lives on for a limited time, by the tuple of its original direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// `bpf_jiffies64` when its time began.
    pub since: u64,
    /// [`crate::flow::FlowEntry::created`]: by it a new flow of the same tuple is told from the old one.
    pub created: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Drained>() == 16);

// SAFETY: integers, padding explicit (16 bytes).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Drained {}
