//! The last packet that each reason has ended, for whoever asks who sends such packets.

/// Bytes that are kept of a packet, from its IP header on: IPv6's header and both ports.
pub const KEPT: usize = 44;
/// The same of an IPv4 packet that has no more: header, and what UDP has.
pub const KEPT_SHORT: usize = 28;
/// The same of one that has nothing behind its IPv4 header.
pub const KEPT_LEAST: usize = 20;

/// One packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastPacket {
    /// `bpf_jiffies64` when it was met; 0 for none.
    pub at: u64,
    /// Index of the device that it was on.
    pub device: u32,
    /// How many of the bytes there are: [`KEPT`], [`KEPT_SHORT`], [`KEPT_LEAST`] or 0.
    pub kept: u32,
    /// How it begins, in native words: as it lies in memory.
    pub words: [u32; KEPT / 4],
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<LastPacket>() == 64);

// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for LastPacket {}
