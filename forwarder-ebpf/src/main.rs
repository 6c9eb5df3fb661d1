//! The forwarder's programs.
//!
//! Each is an entry that wraps its context in a [`hook::Hook`] and runs the one [`pipeline`]. See
//! ARCHITECTURE.md for the way of a packet.
#![no_std]
#![no_main]
// For the one instruction that the library has no function for on BPF: see `half_open`.
#![feature(asm_experimental_arch)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key or value that is not borrowed is copied to the stack, which has 512 bytes"
)]

mod account;
mod answer;
mod cache;
mod capture;
mod clamp;
mod clients;
mod error;
mod event;
mod fragment;
mod front;
mod half_open;
mod hook;
mod last;
mod lookup;
mod maps;
mod open;
mod pipeline;
mod plan;
mod prompt;
mod query;
mod reserve;
mod route;
mod rules;
mod shadow;
mod skb;
mod source;
mod stranger;
mod tc;
mod tell;
mod window;
mod xdp;

/// The kernel offers several helpers to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The programs have no panicking path; one that crept in would not get past the verifier.
    loop {}
}
