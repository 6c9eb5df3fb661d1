//! Counting half-open flows, see [`forwarder_common::half_open`].

use core::arch::asm;

use forwarder_common::half_open::HalfOpen;

use crate::maps::{Family, HALF_OPEN};

/// Whether no flow of TCP may be made now.
#[inline(always)]
pub fn is_full<A: Family>() -> bool {
    match record::<A>() {
        // SAFETY: a live map value; whatever the others write meanwhile, it is off by as many flows at most as there
        // are CPUs.
        Some(record) => unsafe { record.read_volatile() }.is_full(),
        None => true,
    }
}

/// Counts a flow of TCP that was made.
#[inline(always)]
pub fn made<A: Family>() {
    if let Some(record) = record::<A>() {
        // SAFETY: a live map value.
        count(unsafe { &raw mut (*record).made });
    }
}

/// Counts one whose handshake is complete, or which has gone before.
#[inline(always)]
pub fn ended<A: Family>() {
    if let Some(record) = record::<A>() {
        // SAFETY: a live map value.
        count(unsafe { &raw mut (*record).ended });
    }
}

#[inline(always)]
fn record<A: Family>() -> Option<*mut HalfOpen> {
    HALF_OPEN.get_ptr_mut(A::IPV6 as u32)
}

#[inline(always)]
fn count(number: *mut u64) {
    // Every kernel has this one, while those that also return what was there came with 5.12 and the instruction set v3.
    // SAFETY: an aligned number in a live map value, which is only ever written like this.
    unsafe {
        asm!("lock *(u64 *)({number} + 0) += {one}", number = in(reg) number, one = in(reg) 1_u64);
    }
}
