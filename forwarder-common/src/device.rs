//! What the kernel half must know of a network device before it sends a packet there.

/// One device that packets may leave by, keyed by its index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// [`XDP_TRANSMIT`].
    pub flags: u32,
}

/// The driver takes frames that XDP redirects to it (`ndo_xdp_xmit`); without this they would vanish
/// silently, so the slow path sends them.
pub const XDP_TRANSMIT: u32 = 1;

const _: () = assert!(size_of::<Device>() == 8);

// SAFETY: two integers, no padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Device {}
