//! Programs that let everything pass, on XDP and on TC.
//!
//! A veth device takes the frames that XDP on its peer *redirects* to it as soon as it has NAPI. For those sent back by
//! XDP_TX that is not enough: veth_xdp_flush() of drivers/net/veth.c looks for a program on the receiving device and,
//! where it finds none, leaves the frames in the ring without waking anybody (seen on Linux 6.18). Real cards do not
//! care; this makes a veth device like them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `r0 = XDP_PASS; exit`, as `struct bpf_insn` has them.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
/// `r0 = TC_ACT_UNSPEC; exit`: the next program's turn.
const NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_F_BEFORE: u32 = 1 << 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const XDP_FLAGS_DRV_MODE: u32 = 4;
const NLA_F_NESTED: u16 = 0x8000;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD, up to the last field that must be given.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The beginning of `union bpf_attr` for BPF_LINK_CREATE, up to the last field of `tcx`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    index: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// Attaches the program to a device of the calling thread's namespace. It stays until the device goes.
pub(super) fn pass(device: &str) -> Result<()> {
    let program =
        load(BPF_PROG_TYPE_XDP, &PASS).context("loading a program of two instructions")?;
    let index =
        nix::net::if_::if_nametoindex(device).with_context(|| format!("looking for {device}"))?;
    attach(i32::try_from(index)?, &program)
        .with_context(|| format!("attaching a program to {device}"))
}

/// As [`pass`], until the link is closed.
pub(super) fn pass_by_link(device: &str) -> Result<OwnedFd> {
    let program = load(BPF_PROG_TYPE_XDP, &PASS).context("loading an XDP program")?;
    link(device, &program, BPF_XDP, XDP_FLAGS_DRV_MODE)
}

/// Puts a TC program in front of all others on the ingress of a device of the calling thread's namespace.
pub(super) fn first_on_ingress(device: &str) -> Result<OwnedFd> {
    let program = load(BPF_PROG_TYPE_SCHED_CLS, &NEXT).context("loading a TC program")?;
    link(device, &program, BPF_TCX_INGRESS, BPF_F_BEFORE)
}

fn link(device: &str, program: &OwnedFd, attach_type: u32, flags: u32) -> Result<OwnedFd> {
    let create = LinkCreate {
        program: u32::try_from(program.as_raw_fd())?,
        index: nix::net::if_::if_nametoindex(device)
            .with_context(|| format!("looking for {device}"))?,
        attach_type,
        flags,
        relative: 0,
        padding: 0,
        revision: 0,
    };
    make(BPF_LINK_CREATE, &create).with_context(|| format!("attaching a program to {device}"))
}

fn load(program_type: u32, program: &[u64; 2]) -> io::Result<OwnedFd> {
    let load = Load {
        program_type,
        instruction_count: 2,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"theirs\0\0\0\0\0\0\0\0\0\0",
    };
    make(BPF_PROG_LOAD, &load)
}

/// A command of bpf(2) that makes something, with its part of `union bpf_attr`.
fn make<A>(command: libc::c_long, attribute: &A) -> io::Result<OwnedFd> {
    let pointer: *const A = attribute;
    // SAFETY: the attribute and what it points to are laid out as the kernel expects and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<A>()) };
    let fd = RawFd::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// RTM_SETLINK with one nested attribute; `ip link set dev D xdp` wants an ELF file or a pin instead of a descriptor.
fn attach(index: i32, program: &OwnedFd) -> Result<()> {
    let mut nested = attribute(IFLA_XDP_FD, &program.as_raw_fd().to_ne_bytes());
    nested.extend(attribute(IFLA_XDP_FLAGS, &XDP_FLAGS_DRV_MODE.to_ne_bytes()));
    let mut body = vec![0; size_of::<libc::ifinfomsg>()];
    // Behind family, padding and type.
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body.extend(attribute(IFLA_XDP | NLA_F_NESTED, &nested));
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK)?;
    let mut message = u32::try_from(size_of::<libc::nlmsghdr>() + body.len())?
        .to_ne_bytes()
        .to_vec();
    message.extend(libc::RTM_SETLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and port: one request, one answer.
    message.extend([0; 8]);
    message.extend(body);

    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // The acknowledgment is an error message; its code follows the header.
    let Some(code) = answer[..length].get(16..20) else {
        bail!("the kernel's answer has {length} bytes");
    };
    match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code).into()),
    }
}

/// A netlink attribute; all of ours have lengths that need no padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a short attribute");
    [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
}
