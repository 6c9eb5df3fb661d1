//! `ethtool -K` as one ioctl, so that the demo does not need the command.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// An offload of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `tx`: the sender leaves checksums to the device. XDP on the peer then sees partial checksums.
    TxChecksum,
    /// `tso`: the sender leaves segmentation to the device.
    Tso,
    /// `gro`: on a veth device it is what switches NAPI on, without which frames that XDP sends to it are lost.
    Gro,
}

impl Feature {
    /// The "set" command of include/uapi/linux/ethtool.h.
    fn command(self) -> u32 {
        match self {
            Self::TxChecksum => 0x17,
            Self::Tso => 0x1f,
            Self::Gro => 0x2c,
        }
    }
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Sets a feature of a device in the calling thread's namespace.
pub(super) fn set(device: &str, feature: Feature, on: bool) -> Result<()> {
    let socket: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("opening a socket for the ioctl")?;
    let mut value = Value {
        command: feature.command(),
        data: u32::from(on),
    };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    ensure!(
        device.len() < libc::IFNAMSIZ,
        "{device} is too long for the name of a device"
    );
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the request and the value it points to are laid out as the kernel expects and outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    Errno::result(result).map(drop).context("SIOCETHTOOL")
}
