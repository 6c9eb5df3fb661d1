//! Frames sent past the stack, which would never send them itself.

use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sends frames out of a device of the calling thread's namespace, exactly as they are.
pub(super) fn send(device: &str, frames: &[Vec<u8>]) -> Result<()> {
    // No protocol: this socket sends and receives nothing.
    let socket: OwnedFd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("opening a packet socket")?;
    let index =
        nix::net::if_::if_nametoindex(device).with_context(|| format!("looking for {device}"))?;
    // SAFETY: an all-zero address is a valid one, of no family.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET)?;
    address.sll_ifindex = i32::try_from(index)?;
    let length = libc::socklen_t::try_from(size_of_val(&address))?;
    for frame in frames {
        // SAFETY: both buffers are live and of the given lengths.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                length,
            )
        };
        Errno::result(sent)
            .with_context(|| format!("sending {} bytes out of {device}", frame.len()))?;
    }
    Ok(())
}
