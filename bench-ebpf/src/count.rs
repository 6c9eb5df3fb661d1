//! What the sink counts: layouts that both sides of the kernel share.
//!
//! `bench` includes this file by its path; it uses nothing but `core` for that reason.

/// What the sink is to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// The last four bytes of the destination that counts, in the order of the packet.
    pub destination: u32,
    /// 1 to read stamps.
    pub stamp: u32,
    /// The same of the source that a client's answers come from.
    pub source: u32,
    /// 1 to play whole connections, 0 to only open them.
    pub whole: u32,
}

/// What the sink has counted. One NAPI instance writes it, which is on one CPU at a time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Frames for the expected destination; connections that were played to their end.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Other frames; connections that broke.
    pub others: u64,
}

/// Buckets of latency to each doubling: a bucket is at most 3 % wide.
pub const FINE: u32 = 5;

/// Buckets in all: up to 2³² ns.
pub const BUCKETS: u32 = (32 - FINE + 1) << FINE;

/// The bucket of a time.
#[inline(always)]
pub fn bucket(nanoseconds: u32) -> u32 {
    let zeros = (nanoseconds | (1 << FINE)).leading_zeros();
    let shift = 31 - FINE - zeros;
    (shift << FINE) + (nanoseconds >> shift)
}
