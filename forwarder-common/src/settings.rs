//! The one record that userspace tells the programs about the host.

/// Entry 0 of the settings table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Counts changes of routes, neighbours, links and addresses. Cached routes of another generation
    /// are asked for again. Never 0, which new entries use for "not asked yet".
    pub generation: u32,
    /// The shapes in force, as a [`crate::rule::ShapeRange`].
    pub shapes: u32,
    /// First source port that translation may choose, host byte order.
    pub port_first: u16,
    /// Last source port that translation may choose, host byte order.
    pub port_last: u16,
    /// First port of a range inside `port_first..=port_last` that is left to the host's own
    /// connections (`net.ipv4.ip_local_port_range`), host byte order.
    pub local_first: u16,
    /// Its last port; below `local_first` for none.
    pub local_last: u16,
    /// Whether the daemon switched forwarding on for `lo`, so that detaching switches it off again:
    /// [`FORWARDING_V4`], [`FORWARDING_V6`].
    pub loopback_forwarding: u32,
    /// 1 if there are outbound rules, so that packets without a flow are compared with their clients.
    pub outbound: u32,
    /// Families that rules have or have had, [`FAMILY_V4`] and [`FAMILY_V6`]: packets of others are not
    /// looked at. One that was in use stays so, because it may have flows.
    pub families: u32,
}

/// [`Settings::families`]: IPv4.
pub const FAMILY_V4: u32 = 1;
/// [`Settings::families`]: IPv6.
pub const FAMILY_V6: u32 = 2;

/// [`Settings::loopback_forwarding`]: for IPv4.
pub const FORWARDING_V4: u32 = 1;
/// [`Settings::loopback_forwarding`]: for IPv6.
pub const FORWARDING_V6: u32 = 2;

const _: () = assert!(size_of::<Settings>() == 28);

// SAFETY: integers only, no padding (28 bytes).
#[cfg(feature = "user")]
unsafe impl aya::Pod for Settings {}
