//! Which devices take frames that XDP redirects to them: the kernel's `netdev` family (Linux 6.3, commit
//! d3d854fd6a1d).

use std::{collections::BTreeSet, io, os::fd::AsRawFd as _};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// include/uapi/linux/netlink.h and genetlink.h
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// include/uapi/linux/netdev.h
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// Bytes of `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 20;

/// Indices of the devices that take redirected frames; `None` where the kernel does not say.
pub(super) fn read() -> io::Result<Option<BTreeSet<u32>>> {
    let Some(family) = family()? else {
        return Ok(None);
    };
    let mut devices = BTreeSet::new();
    exchange(family, NETDEV_CMD_DEV_GET, NLM_F_DUMP, &[], |payload| {
        let (mut index, mut features) = (0, 0);
        for (kind, value) in attributes(payload) {
            match kind {
                NETDEV_A_DEV_IFINDEX => index = number(value) as u32,
                NETDEV_A_DEV_XDP_FEATURES => features = number(value),
                _ => {}
            }
        }
        if features & NETDEV_XDP_ACT_NDO_XMIT != 0 {
            devices.insert(index);
        }
    })?;
    Ok(Some(devices))
}

/// Whether this kernel says which devices take redirected frames.
pub fn tells() -> bool {
    family().is_ok_and(|family| family.is_some())
}

/// The number of the `netdev` family in this kernel.
fn family() -> io::Result<Option<u16>> {
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let mut family = None;
    let found = exchange(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0, &name, |payload| {
        for (kind, value) in attributes(payload) {
            if kind == CTRL_ATTR_FAMILY_ID {
                family = Some(number(value) as u16);
            }
        }
    });
    match found {
        Ok(()) => Ok(family),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends one request and calls `visit` with the attributes of every message that comes back.
fn exchange(
    family: u16,
    command: u8,
    flags: u16,
    payload: &[u8],
    mut visit: impl FnMut(&[u8]),
) -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let length = (HEADERS + payload.len()) as u32;
    let mut request = Vec::with_capacity(length as usize);
    request.extend(length.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]); // sequence and port: one request, one socket
    request.extend([command, 1, 0, 0]);
    request.extend(payload);
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..count];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.get(..4).map_or(0, number) as i32;
                    return Err(io::Error::from_raw_os_error(-code));
                }
                _ => visit(body.get(4..).unwrap_or_default()),
            }
            rest = next;
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(());
        }
    }
}

/// Splits off the first message: its type, what follows its header, and the rest.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(bytes.get(..4)?) as usize;
    let kind = number(bytes.get(4..6)?) as u16;
    let body = bytes.get(16..length)?;
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((kind, body, &bytes[next..]))
}

/// The attributes in a message.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = number(bytes.get(..2)?) as usize;
        let kind = number(bytes.get(2..4)?) as u16;
        let value = bytes.get(4..length)?;
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some((kind, value))
    })
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::new();
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// A native integer of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let start = if cfg!(target_endian = "big") {
        8 - bytes.len().min(8)
    } else {
        0
    };
    for (to, from) in whole[start..].iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_ne_bytes(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back() {
        let mut bytes = attribute(1, &7_u32.to_ne_bytes());
        bytes.extend(attribute(2, b"odd"));
        bytes.extend(attribute(3, &9_u64.to_ne_bytes()));
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found[0], (1, 7_u32.to_ne_bytes().as_slice()));
        assert_eq!(found[1], (2, b"odd".as_slice()));
        assert_eq!(number(found[2].1), 9);
    }

    #[test]
    fn cut_off_messages_end_the_walk() {
        let bytes = attribute(1, b"four");
        for length in 0..bytes.len() {
            assert_eq!(attributes(&bytes[..length]).count(), 0);
            assert!(message(&bytes[..length]).is_none());
        }
    }
}
