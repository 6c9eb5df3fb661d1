//! The fast path: XDP.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_meta},
    macros::xdp,
    programs::XdpContext,
};
use forwarder_common::{
    address::V4,
    checksum::Delta,
    device::{HANDOFF, NO_METADATA, REDIRECT_ONLY, XDP_TRANSMIT},
    flow::Route,
    frame::{Frame, Transport, update_checksum_field},
    parse::Packet,
    reason::Verdict,
    stats::HOOK_XDP,
};

use crate::{
    hook::Hook,
    maps::{CLOCK, DEVICES},
    pipeline,
    window::Window,
};

/// Translates and sends what it can, hands to TC what it cannot finish, and leaves the rest alone.
#[xdp]
pub fn forwarder_xdp(context: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(&context);
    match pipeline::run(&mut frame) {
        Ok(action) => action as u32,
        Err(reason) => match reason.verdict() {
            Verdict::Pass => XDP_PASS,
            Verdict::SlowPath => hand_off(&context),
            Verdict::Drop => XDP_DROP,
        },
    }
}

/// Reads both clocks, so that userspace can turn jiffies into seconds.
#[xdp]
pub fn forwarder_clock(_context: XdpContext) -> u32 {
    if let Some(clock) = CLOCK.get_ptr_mut(0) {
        // SAFETY: the helper takes no argument and only reads a clock.
        let jiffies = unsafe { bpf_jiffies64() };
        // SAFETY: as above.
        let nanoseconds = unsafe { bpf_ktime_get_ns() };
        // SAFETY: `get_ptr_mut` returned a live map value.
        unsafe { *clock = [jiffies, nanoseconds] };
    }
    XDP_PASS
}

/// Marks the packet for the TC program on the same device and passes it on.
#[inline(always)]
fn hand_off(context: &XdpContext) -> u32 {
    // SAFETY: the context is the kernel's.
    if unsafe { bpf_xdp_adjust_meta(context.ctx, -(size_of::<u32>() as i32)) } != 0 {
        let ingress = context.ingress_ifindex() as u32;
        if let Some(device) = DEVICES.get_ptr_mut(ingress) {
            // SAFETY: `get_ptr_mut` returned a live map value; the flag is only ever set.
            unsafe { (*device).flags |= NO_METADATA };
        }
        return XDP_PASS;
    }
    let mark = context.metadata();
    if mark + size_of::<u32>() > context.data() {
        return XDP_ABORTED;
    }
    // SAFETY: the four bytes of metadata were bounds-checked.
    unsafe { (mark as *mut u32).write(HANDOFF) };
    XDP_PASS
}

/// The frame in an XDP buffer.
struct XdpFrame<'a> {
    context: &'a XdpContext,
    window: Window,
}

impl<'a> XdpFrame<'a> {
    #[inline(always)]
    fn new(context: &'a XdpContext) -> Self {
        Self {
            context,
            window: Window::new(context.data(), context.data_end()),
        }
    }
}

impl XdpFrame<'_> {
    /// Whether `XDP_TX` serves: out of the device it came in by.
    #[inline(always)]
    fn turns_around(&self, route: &Route) -> bool {
        route.egress == self.ingress() && route.device & REDIRECT_ONLY as u16 == 0
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        self.window.at(offset)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.window.length()
    }

    #[inline(always)]
    fn update_transport_checksum(
        &mut self,
        transport: Transport,
        offset: usize,
        addresses: Delta,
        ports: Delta,
    ) {
        if let Some(field) = self.at::<u16>(offset) {
            // SAFETY: `at` checked the two bytes.
            unsafe { update_checksum_field(field, transport, addresses.then(ports)) };
        }
    }
}

impl Hook for XdpFrame<'_> {
    const INDEX: usize = HOOK_XDP;
    const FAST: bool = true;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn wire_length(&self, packet: &Packet) -> u32 {
        u32::from(packet.length)
    }

    #[inline(always)]
    fn can_send(&self, route: &Route) -> bool {
        self.turns_around(route) || route.device & XDP_TRANSMIT as u16 != 0
    }

    #[inline(always)]
    fn send(&self, route: &Route) -> i32 {
        if self.turns_around(route) {
            return XDP_TX as i32;
        }
        // SAFETY: no pointer is passed.
        match unsafe { bpf_redirect(route.egress, 0) } as u32 {
            XDP_REDIRECT => XDP_REDIRECT as i32,
            _ => XDP_ABORTED as i32,
        }
    }

    #[inline(always)]
    fn send_by_neighbour(&self, _egress: u32, _next_hop: V4) -> i32 {
        XDP_ABORTED as i32
    }
}
