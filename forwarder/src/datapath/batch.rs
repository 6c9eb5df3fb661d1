//! Reading and deleting many entries of a hash map with one system call (Linux 5.6).
//!
//! aya has no wrapper for these.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd as _, OwnedFd},
};

use aya::Pod;

use super::syscall::{address, bpf};

/// `enum bpf_cmd` in include/uapi/linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

/// Entries a call asks for: a few hundred kilobytes, and far more than collide in one bucket.
const CHUNK: usize = 4096;

/// The `batch` member of `union bpf_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

// SAFETY: as in the kernel's header: eight-byte integers and a pair of four-byte ones.
unsafe impl super::syscall::Attributes for Attributes {}

/// A hash map, for whole-table work.
#[derive(Debug)]
pub(super) struct Batch<K, V> {
    map: OwnedFd,
    capacity: u32,
    entry: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Batch<K, V> {
    pub(super) fn new(map: OwnedFd, capacity: u32) -> Self {
        Self {
            map,
            capacity,
            entry: PhantomData,
        }
    }

    /// Entries there can be.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Calls `visit` for every entry. Entries that come and go meanwhile may be seen or not.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&K, &V)) -> io::Result<()> {
        let mut keys: Vec<K> = Vec::with_capacity(CHUNK);
        let mut values: Vec<V> = Vec::with_capacity(CHUNK);
        // The kernel's cursor: a bucket number.
        let mut cursor = 0_u32;
        let mut first = true;
        loop {
            let mut attributes = Attributes {
                in_batch: if first { 0 } else { address(&raw mut cursor) },
                out_batch: address(&raw mut cursor),
                keys: address(keys.as_mut_ptr()),
                values: address(values.as_mut_ptr()),
                count: CHUNK as u32,
                map_fd: self.map.as_raw_fd() as u32,
                ..Attributes::default()
            };
            let result = bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes);
            let done = match result {
                Ok(_) => false,
                // The last chunk.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let count = (attributes.count as usize).min(CHUNK);
            // SAFETY: the kernel has filled in `count` keys, at most the capacity.
            unsafe { keys.set_len(count) };
            // SAFETY: likewise.
            unsafe { values.set_len(count) };
            for (key, value) in keys.iter().zip(&values) {
                visit(key, value);
            }
            if done {
                return Ok(());
            }
            first = false;
        }
    }

    /// Deletes `keys`; those that are gone already do not matter.
    pub(super) fn delete(&self, keys: &[K]) -> io::Result<()> {
        let mut rest = keys;
        while !rest.is_empty() {
            let mut attributes = Attributes {
                keys: address(rest.as_ptr().cast_mut()),
                count: u32::try_from(rest.len()).unwrap_or(u32::MAX),
                map_fd: self.map.as_raw_fd() as u32,
                ..Attributes::default()
            };
            match bpf(BPF_MAP_DELETE_BATCH, &mut attributes) {
                Ok(_) => return Ok(()),
                // `count` says how many were deleted before the one that is gone.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    let done = attributes.count as usize + 1;
                    rest = rest.get(done..).unwrap_or_default();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
