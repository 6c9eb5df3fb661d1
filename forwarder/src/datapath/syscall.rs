//! `bpf(2)` itself, for the few commands that aya has no wrapper for.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `enum bpf_cmd` in include/uapi/linux/bpf.h.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;

/// A member of `union bpf_attr`, from its start.
///
/// # Safety
///
/// The layout is the kernel's, without padding, and every pointer in it leads to what the command expects
/// for as long as the call lasts.
pub(super) unsafe trait Attributes: Copy {}

/// `pathname`, `bpf_fd` and `file_flags` of the `BPF_OBJ_*` commands.
#[repr(C)]
#[derive(Clone, Copy)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}

// SAFETY: as in the kernel's header.
unsafe impl Attributes for Object {}

/// `info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    descriptor: u32,
    length: u32,
    info: u64,
}

// SAFETY: as in the kernel's header.
unsafe impl Attributes for Info {}

/// `link_id`, `next_id` and `open_flags`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ById {
    link: u32,
    next: u32,
    flags: u32,
}

// SAFETY: as in the kernel's header.
unsafe impl Attributes for ById {}

/// `link_detach`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LinkDetach {
    link: u32,
}

// SAFETY: as in the kernel's header.
unsafe impl Attributes for LinkDetach {}

/// Takes the pinned link at `path` off its device now (Linux 5.9, commit 73b11c2ab072): removing the pin
/// alone leaves that to a worker in the kernel.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    detach(&open(path)?)
}

/// Takes the link with this number off its device. Needs CAP_SYS_ADMIN.
pub(super) fn detach_link_id(link: u32) -> io::Result<()> {
    let mut attributes = ById {
        link,
        next: 0,
        flags: 0,
    };
    let descriptor = bpf(BPF_LINK_GET_FD_BY_ID, &mut attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    detach(&unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    let mut attributes = LinkDetach {
        link: link.as_raw_fd() as u32,
    };
    bpf(BPF_LINK_DETACH, &mut attributes).map(drop)
}

/// Index of the device that the pinned XDP or TCX link at `path` is on; 0 if the device is gone.
pub(super) fn link_device(path: &Path) -> io::Result<u32> {
    let link = open(path)?;
    // struct bpf_link_info: type, id, prog_id, padding, then the union, whose `xdp` and `tcx` members begin
    // with the index.
    let mut info = [0_u32; 32];
    let mut attributes = Info {
        descriptor: link.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: address(info.as_mut_ptr()),
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info[4])
}

/// Opens the pinned object at `path`.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut object = Object {
        path: address(name.as_ptr().cast_mut()),
        descriptor: 0,
        flags: 0,
    };
    let descriptor = bpf(BPF_OBJ_GET, &mut object)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A pointer as `bpf(2)` takes it.
pub(super) fn address<T>(pointer: *mut T) -> u64 {
    pointer.addr() as u64
}

/// The system call.
pub(super) fn bpf<A: Attributes>(
    command: libc::c_int,
    attributes: &mut A,
) -> io::Result<libc::c_int> {
    let (pointer, size) = (&raw mut *attributes, size_of::<A>());
    // SAFETY: `Attributes` promises layout and pointers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
