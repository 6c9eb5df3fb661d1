//! What the kernel half must know of a network device before it sends a packet there.

use crate::{ethernet::Macs, parse::Tag};

/// One device that packets arrive or leave by, keyed by its index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// [`XDP_TRANSMIT`], [`NO_METADATA`], [`REDIRECT_ONLY`], [`TAGGED`], [`SHADOW`], [`LEAVING`].
    pub flags: u32,
    /// Its own MAC address as destination, source zero: frames to another one are not for this host.
    pub mac: Macs,
    /// For [`TAGGED`]: index of the device that carries its frames.
    pub lower: u32,
    /// For [`TAGGED`]: the tag its frames have there.
    pub tag: Tag,
}

/// Key of the table of VLAN devices: which device tagged frames on another one belong to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VlanKey {
    /// Index of the device that the frames come in by.
    pub lower: u32,
    /// Their tag.
    pub tag: Tag,
}

/// The driver takes frames that XDP redirects to it (`ndo_xdp_xmit`); without this they would vanish
/// silently, so the slow path sends them.
pub const XDP_TRANSMIT: u32 = 1;

/// The driver has no room for XDP metadata, so the slow path on this device cannot tell what XDP has
/// handed to it and must look at everything. Set by the kernel half when it finds out.
pub const NO_METADATA: u32 = 2;

/// Frames that leave by the device they came in by are redirected there instead of transmitted with
/// `XDP_TX`. veth wakes its peer for the former always, for the latter only if the peer has an XDP program
/// of its own (`veth_xdp_flush` in drivers/net/veth.c), so that frames would wait for the next one.
pub const REDIRECT_ONLY: u32 = 4;

/// A VLAN device. Its other flags are those of the device that carries its frames.
pub const TAGGED: u32 = 8;

/// Flows that begin here are watched and not translated. Beyond the flags that [`crate::flow::Egress`] keeps.
pub const SHADOW: u32 = 16;

/// It is configured no more and serves the flows that it has: none is opened by what comes in by it.
/// Of no concern to what leaves by it, so there is no room for it in [`crate::flow::Egress`].
pub const LEAVING: u32 = 32;

/// Written before the frame by XDP for the slow path: "this packet is yours".
pub const HANDOFF: u32 = 0x4657_4431;

/// The same for a fragment that its datagram's record has already.
pub const HANDOFF_COVERED: u32 = HANDOFF + 1;

const _: () = {
    assert!(size_of::<Device>() == 28);
    assert!(size_of::<VlanKey>() == 8);
};

// SAFETY: integers without padding.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Device {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for VlanKey {}
