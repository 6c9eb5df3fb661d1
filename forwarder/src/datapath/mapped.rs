//! An array map in this process's memory. By a system call an entry can only be written as a whole, and so with what
//! programs may have changed since it was read.

use std::{marker::PhantomData, num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use anyhow::Context as _;
use aya::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Entries of a map that was made with `BPF_F_MMAPABLE` (Linux 5.5, commit fc9702273e2e). A multiple of eight bytes each,
/// so that they stand one behind the other.
pub(super) struct Mapped<V> {
    entries: NonNull<V>,
    count: usize,
    values: PhantomData<V>,
}

// SAFETY: the memory stays where it is until it is dropped, and may be touched from any thread.
unsafe impl<V: Pod> Send for Mapped<V> {}
// SAFETY: as above; what is written is written in one instruction.
unsafe impl<V: Pod> Sync for Mapped<V> {}

impl<V: Pod> Mapped<V> {
    /// The `count` entries of `map`.
    pub(super) fn open(map: impl AsFd, count: u32) -> anyhow::Result<Self> {
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        let count = count as usize;
        let length = NonZeroUsize::new(count * size_of::<V>()).context("a map without entries")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, which nothing else in this process knows of.
        let memory = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, map, 0) }
            .context("cannot map a table")?;
        Ok(Self {
            entries: memory.cast(),
            count,
            values: PhantomData,
        })
    }

    /// Where entry `index` is, if there is one.
    pub(super) fn entry(&self, index: usize) -> Option<NonNull<V>> {
        // SAFETY: within the mapping.
        (index < self.count).then(|| unsafe { self.entries.add(index) })
    }
}

impl<V> Drop for Mapped<V> {
    fn drop(&mut self) {
        let length = self.count * size_of::<V>();
        // SAFETY: the mapping that `open` made, which nobody has a pointer into any more.
        let _unmapped = unsafe { munmap(self.entries.cast(), length) };
    }
}
