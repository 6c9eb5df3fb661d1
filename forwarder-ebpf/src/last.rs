//! Remembering the last packet that each reason has ended.
//!
//! Only of packets that end here: what is left to the kernel is the many packets that are none of ours, and they are not
//! to cost more.

use core::mem::offset_of;

use forwarder_common::{
    frame,
    last::{KEPT, KEPT_LEAST, KEPT_SHORT, LastPacket},
    parse,
    reason::Reason,
};
use network_types::eth::EthHdr;

use crate::{hook::Hook, maps::LAST, pipeline::now, window::Window};

/// Remembers the packet, of which no byte has been changed.
#[inline(always)]
pub fn remember<H: Hook>(hook: &H, reason: Reason) {
    let window = hook.window();
    let Some(ethernet) = window.at::<EthHdr>(0) else {
        return;
    };
    // SAFETY: `at` bounds-checked the header.
    let ether_type: u16 =
        unsafe { frame::read_field(ethernet.cast(), offset_of!(EthHdr, ether_type)) };
    let Some(last) = LAST.get_ptr_mut(reason as u32) else {
        return;
    };
    // SAFETY: `get_ptr_mut` returned this CPU's live map value.
    let last = unsafe { &mut *last };
    last.at = now();
    last.device = hook.near();
    last.kept = 0;
    // Two calls, so that the verifier knows where the header is.
    if parse::VLAN.contains(&ether_type) {
        keep(&window, EthHdr::LEN + parse::TAG, last);
    } else {
        keep(&window, EthHdr::LEN, last);
    }
}

#[inline(always)]
fn keep(window: &Window, start: usize, last: &mut LastPacket) {
    if let Some(words) = window.at::<[u32; KEPT / 4]>(start) {
        copy::<{ KEPT / 4 }>(words.cast(), last);
    } else if let Some(words) = window.at::<[u32; KEPT_SHORT / 4]>(start) {
        copy::<{ KEPT_SHORT / 4 }>(words.cast(), last);
    } else if let Some(words) = window.at::<[u32; KEPT_LEAST / 4]>(start) {
        copy::<{ KEPT_LEAST / 4 }>(words.cast(), last);
    }
}

/// Copies so many words.
#[inline(always)]
fn copy<const WORDS: usize>(from: *const u8, last: &mut LastPacket) {
    for word in 0..WORDS {
        // SAFETY: the caller has checked the bounds of these words.
        last.words[word] = unsafe { frame::read_field(from, 4 * word) };
    }
    last.kept = 4 * WORDS as u32;
}
