//! Sending a frame that userspace has made, under test run.

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT},
    macros::classifier,
    programs::TcContext,
};

/// Sends a copy of the packet out of the device that it is at. So userspace needs no right to open a packet socket.
#[classifier]
#[inline(always)]
pub fn forwarder_prompt(context: TcContext) -> i32 {
    // SAFETY: the context is the kernel's.
    let device = unsafe { (*context.skb.skb).ifindex };
    match context.clone_redirect(device, 0) {
        Ok(()) => TC_ACT_OK,
        Err(_) => TC_ACT_SHOT,
    }
}
