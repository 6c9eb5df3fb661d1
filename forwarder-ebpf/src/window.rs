//! The bytes of a packet that a program may touch directly.

use aya_ebpf::helpers::bpf_csum_diff;

/// From the context's `data` to its `data_end`, as they were when this was made. A helper that may move the
/// packet makes it stale, and the verifier refuses whatever is done with it then.
#[derive(Clone, Copy)]
pub struct Window {
    start: usize,
    end: usize,
}

impl Window {
    /// Between two values that came from one context.
    #[inline(always)]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Its length in bytes.
    #[inline(always)]
    pub fn length(&self) -> u32 {
        (self.end - self.start) as u32
    }

    /// A pointer to the `T` at `offset`, if all of it lies inside.
    #[inline(always)]
    pub fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let first = self.start + offset;
        if first + size_of::<T>() > self.end {
            return None;
        }
        Some(first as *mut T)
    }

    /// The one's-complement sum of the `N` bytes from `offset` on.
    #[inline(always)]
    pub fn sum<const N: usize>(&self, offset: usize) -> Option<u32> {
        let bytes: *mut u32 = self.at::<[u8; N]>(offset)?.cast();
        // SAFETY: `at` bounds-checked them; the helper reads only.
        let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, bytes, N as u32, 0) };
        Some(sum as u32)
    }
}
