//! Which driver a device has, and what is known of drivers.

use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// include/uapi/linux/sockios.h
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// include/uapi/linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 3;
/// `ETHTOOL_BUSINFO_LEN` and its siblings: every string in `struct ethtool_drvinfo` has this length.
const STRING: usize = 32;
/// `sizeof(struct ethtool_drvinfo)`.
const DRVINFO: usize = 196;

/// Drivers of real network cards and paravirtual ones with native XDP: what arrives is wire frames, so XDP
/// is the fast way. Virtual devices that carry large segments (veth, tap, bridge) are left out on purpose:
/// TC moves bulk TCP faster there. With each, whether it takes frames that XDP redirects to it, for kernels
/// that do not say (before 6.3).
const NATIVE: &[(&str, bool)] = &[
    ("atlantic", false),
    ("bnxt_en", true),
    ("dpaa2-eth", true),
    ("ena", true),
    ("enetc", true),
    ("fsl_dpaa", false),
    ("fsl_enetc", true),
    ("gve", true),
    ("hv_netvsc", false),
    ("i40e", true),
    ("ice", true),
    ("igb", true),
    ("igc", true),
    ("ixgbe", true),
    ("ixgbevf", false),
    ("idpf", false),
    ("mana", false),
    ("mlx4_en", false),
    ("mlx5_core", true),
    ("mvneta", true),
    ("mvpp2", true),
    ("netsec", true),
    ("nfp", false),
    ("qede", true),
    ("sfc", true),
    ("stmmac", true),
    ("st_gmac", true),
    ("ti_cpsw", true),
    ("tsnep", true),
    ("virtio_net", true),
    ("vmxnet3", true),
    ("xen_netfront", false),
    ("vif", false),
];

/// The driver's name, if the device says.
pub fn driver(device: &str) -> Option<String> {
    let probe = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    let mut info = [0_u8; DRVINFO];
    info[..4].copy_from_slice(&ETHTOOL_GDRVINFO.to_ne_bytes());
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = info.as_mut_ptr().cast();
    // SAFETY: the request names `info`, which has the size that the command fills.
    let result = unsafe { libc::ioctl(probe.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result != 0 {
        return None;
    }
    let name: Vec<u8> = info[4..4 + STRING]
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// Whether `driver` has native XDP on wire frames.
pub fn has_native_xdp(driver: &str) -> bool {
    NATIVE.iter().any(|(name, _)| *name == driver)
}

/// Whether the device takes frames that XDP redirects to it, judged by its driver.
pub(super) fn transmits_xdp(device: &str) -> bool {
    driver(device).is_some_and(|driver| NATIVE.contains(&(driver.as_str(), true)))
}

/// Whether `XDP_TX` does not work reliably on the device; see
/// [`forwarder_common::device::REDIRECT_ONLY`].
pub(super) fn is_redirect_only(device: &str) -> bool {
    driver(device).is_some_and(|driver| driver == "veth")
}
