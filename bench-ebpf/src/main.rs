//! The bench's own programs.
//!
//! `generator` makes packets out of the live frames of a test run, `sink` counts what arrives, `talk` plays both ends of
//! TCP connections, `ceiling` is a gateway that does no more than any gateway must, and `probe` makes packets and has
//! another program look at them.
#![no_std]
#![no_main]

mod ceiling;
mod count;
mod generator;
mod probe;
mod sink;
mod talk;
mod tcp;
mod wire;

/// Two bytes of a packet, in its order.
#[inline(always)]
fn half(at: usize) -> u16 {
    // SAFETY: every caller has checked that this is within the packet; offsets are even.
    unsafe { *(at as *const u16) }
}

/// The kernel offers several helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The programs have no panicking path; one that crept in would not get past the verifier.
    loop {}
}
