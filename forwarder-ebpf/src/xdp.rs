//! The fast path: XDP.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    helpers::{
        bpf_jiffies64, bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_meta,
        bpf_xdp_adjust_tail,
    },
    macros::xdp,
    programs::XdpContext,
};
use forwarder_common::{
    address::{V4, V6},
    checksum::Delta,
    device::{HANDOFF, HANDOFF_COVERED, NO_METADATA, REDIRECT_ONLY, TAGGED, VlanKey, XDP_TRANSMIT},
    flow::Route,
    fragment::HELD_BYTES,
    frame::{self, Frame, Transport, update_checksum_field},
    parse::{TAG, Tag},
    reason::{Reason, Verdict},
    stats::HOOK_XDP,
};

use crate::{
    account, answer, clamp, error,
    fragment::{self, Holder},
    front,
    hook::Hook,
    maps::{self, CLOCK, DEVICES, Family, VLANS, XDP_STAGES},
    open, pipeline, query, reserve,
    window::Window,
};

/// Translates and sends what it can, hands to TC what it cannot finish, and leaves the rest alone.
#[xdp]
#[inline(always)]
pub fn forwarder_xdp(context: XdpContext) -> u32 {
    front::run(&mut XdpFrame::new(&context)) as u32
}

macro_rules! main {
    ($name:ident, $family:ty) => {
        /// See [`forwarder_common::stage::Stage`].
        #[xdp]
        #[inline(always)]
        pub fn $name(context: XdpContext) -> u32 {
            let mut frame = XdpFrame::new(&context);
            let value = match pipeline::enter(&mut frame) {
                Ok(link) => pipeline::main::<_, $family>(&mut frame, &link),
                Err(reason) => pipeline::refuse(&frame, reason),
            };
            value as u32
        }
    };
}

main!(xdp_main_v4, V4);
main!(xdp_main_v6, V6);

macro_rules! stage {
    ($name:ident, $family:ty, $stage:path) => {
        /// See [`forwarder_common::stage::Stage`].
        #[xdp]
        #[inline(always)]
        pub fn $name(context: XdpContext) -> u32 {
            let mut frame = XdpFrame::new(&context);
            pipeline::stage::<_, $family>(&mut frame, |hook, link| $stage(hook, link)) as u32
        }
    };
}

macro_rules! bare {
    ($name:ident, $family:ty, $stage:path) => {
        /// See [`forwarder_common::stage::Stage`].
        #[xdp]
        #[inline(always)]
        pub fn $name(context: XdpContext) -> u32 {
            pipeline::bare::<_, $family>(&XdpFrame::new(&context), || $stage()) as u32
        }
    };
}

bare!(xdp_reserve_v4, V4, reserve::run::<V4>);
bare!(xdp_reserve_v6, V6, reserve::run::<V6>);
stage!(xdp_open_v4, V4, open::run::<_, V4>);
stage!(xdp_open_v6, V6, open::run::<_, V6>);
stage!(xdp_clamp_v4, V4, clamp::run::<_, V4>);
stage!(xdp_clamp_v6, V6, clamp::run::<_, V6>);
stage!(xdp_error_v4, V4, error::run::<_, V4>);
stage!(xdp_error_v6, V6, error::run::<_, V6>);
stage!(xdp_fragment_v4, V4, fragment::run::<_, V4>);
stage!(xdp_fragment_v6, V6, fragment::run::<_, V6>);
stage!(xdp_query_v4, V4, query::run::<_>);
stage!(xdp_answer_v4, V4, answer::run::<_, V4>);
stage!(xdp_answer_v6, V6, answer::run::<_, V6>);

/// Reads both clocks, so that userspace can turn jiffies into seconds.
#[xdp]
#[inline(always)]
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

/// The frame in an XDP buffer.
pub struct XdpFrame<'a> {
    context: &'a XdpContext,
    window: Window,
    /// The device it is of: the VLAN device if it has a tag.
    ingress: u32,
    tag: Option<Tag>,
    is_fragment: bool,
}

impl<'a> XdpFrame<'a> {
    /// With whatever is within reach.
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self {
            context,
            window: Window::new(context.data(), context.data_end()),
            ingress: context.ingress_ifindex() as u32,
            tag: None,
            is_fragment: false,
        }
    }

    /// Index of the device the program is on.
    #[inline(always)]
    fn device(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    /// Looks at the packet again, after a helper that may have moved it.
    #[inline(always)]
    fn look(&mut self) {
        self.window = Window::new(self.context.data(), self.context.data_end());
    }

    /// Moves the beginning of the frame by `bytes`, up if they are negative.
    #[inline(always)]
    fn move_head(&mut self, bytes: i32) -> bool {
        // SAFETY: the context is the kernel's.
        let moved = unsafe { bpf_xdp_adjust_head(self.context.ctx, bytes) } == 0;
        self.look();
        moved
    }

    /// Marks the packet for the TC program on the same device and passes it on.
    #[inline(always)]
    fn hand_off(&self) -> u32 {
        let context = self.context;
        // SAFETY: the context is the kernel's.
        if unsafe { bpf_xdp_adjust_meta(context.ctx, -(size_of::<u32>() as i32)) } != 0 {
            if let Some(device) = DEVICES.get_ptr_mut(self.device()) {
                // SAFETY: `get_ptr_mut` returned a live map value; the flag is only ever set.
                unsafe { (*device).flags |= NO_METADATA };
            }
            return XDP_PASS;
        }
        let mark = context.metadata();
        if mark + size_of::<u32>() > context.data() {
            return XDP_ABORTED;
        }
        // The record may be of an earlier packet if this one is not a fragment.
        let covered = self.is_fragment && maps::scratch().is_ok_and(|scratch| scratch.covered);
        let word = if covered { HANDOFF_COVERED } else { HANDOFF };
        // SAFETY: the four bytes of metadata were bounds-checked.
        unsafe { (mark as *mut u32).write(word) };
        XDP_PASS
    }

    /// Gives the frame the tag `new` in place of the one it has. False if there is no room for one.
    #[inline(always)]
    fn retag(&mut self, new: Option<Tag>, route: &Route) -> Option<()> {
        let moved = match (self.tag, new) {
            (None, None) => return Some(()),
            (None, Some(_)) => self.move_head(-(TAG as i32)),
            (Some(_), None) => self.move_head(TAG as i32),
            (Some(_), Some(_)) => true,
        };
        let start = self.at::<[u16; 8]>(0).filter(|_| moved)?;
        // SAFETY: `at` bounds-checked sixteen bytes.
        unsafe { frame::write_words(start.cast(), route.macs.0) };
        if let Some(tag) = new {
            // SAFETY: as above.
            unsafe { frame::write_field(start.cast(), 12, tag.protocol) };
            // SAFETY: as above.
            unsafe { frame::write_field(start.cast(), 14, tag.id.to_be()) };
        }
        Some(())
    }

    /// Sends the frame out of `device`, which has `flags`.
    #[inline(always)]
    fn emit(&self, device: u32, flags: u32) -> i32 {
        if device == self.device() && flags & REDIRECT_ONLY == 0 {
            return XDP_TX as i32;
        }
        // SAFETY: no pointer is passed.
        match unsafe { bpf_redirect(device, 0) } as u32 {
            XDP_REDIRECT => XDP_REDIRECT as i32,
            _ => XDP_ABORTED as i32,
        }
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
    fn sum<const N: usize>(&self, offset: usize) -> Option<u32> {
        self.window.sum::<N>(offset)
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        maps::forget(value)
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
    const EGRESS: bool = false;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn window(&self) -> Window {
        Window::new(self.context.data(), self.context.data_end())
    }

    #[inline(always)]
    fn arrive(&mut self, tag: Option<Tag>) -> Result<(), Reason> {
        let Some(known) = tag else {
            return Ok(());
        };
        self.tag = tag;
        let key = VlanKey {
            lower: self.device(),
            tag: known,
        };
        // SAFETY: an integer that userspace writes.
        let device = unsafe { VLANS.get(key) }.ok_or(Reason::ForeignVlan)?;
        self.ingress = *device;
        Ok(())
    }

    #[inline(always)]
    fn is_fragment(&mut self, is: bool) {
        self.is_fragment = is;
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ingress
    }

    #[inline(always)]
    fn wire_length(&self, length: u32, _headers: u16) -> u32 {
        length
    }

    #[inline(always)]
    fn can_send(&self, route: &Route) -> bool {
        let egress = route.egress;
        let turns_around = egress.index() == self.ingress && !egress.has(REDIRECT_ONLY);
        turns_around || egress.has(XDP_TRANSMIT)
    }

    #[inline(always)]
    fn send(&mut self, route: &Route) -> i32 {
        let (mut device, mut tag) = (route.egress.index(), None);
        if route.egress.has(TAGGED) {
            // SAFETY: nothing writes devices but userspace and a flag.
            let Some(known) = (unsafe { DEVICES.get(device) }) else {
                return XDP_ABORTED as i32;
            };
            (device, tag) = (known.lower, Some(known.tag));
        }
        if self.retag(tag, route).is_none() {
            account::refused(Reason::SlowPathFailed);
            return XDP_DROP as i32;
        }
        self.emit(device, route.egress.flags())
    }

    #[inline(always)]
    fn send_by_neighbour<A: Family>(&self, _egress: u32, _next_hop: A) -> i32 {
        XDP_ABORTED as i32
    }

    #[inline(always)]
    fn bounce(&mut self, flags: u32) -> i32 {
        self.emit(self.device(), flags)
    }

    #[inline(always)]
    fn reshape(&mut self, length: u32, room: u32) -> bool {
        let cut = length as i32 - self.length() as i32;
        // SAFETY: the context is the kernel's.
        if unsafe { bpf_xdp_adjust_tail(self.context.ctx, cut) } != 0 {
            return false;
        }
        self.look();
        room == 0 || self.move_head(-(room as i32))
    }

    #[inline(always)]
    fn stay(&self) -> i32 {
        XDP_PASS as i32
    }

    #[inline(always)]
    fn refuse(&self, verdict: Verdict) -> i32 {
        let action = match verdict {
            Verdict::Pass => XDP_PASS,
            Verdict::SlowPath => self.hand_off(),
            Verdict::Drop => XDP_DROP,
        };
        action as i32
    }

    #[inline(always)]
    fn jump(&self, index: u32) {
        // SAFETY: nothing here has a destructor that would be skipped.
        unsafe { XDP_STAGES.tail_call(self.context, index) };
    }
}

impl Holder for XdpFrame<'_> {
    #[inline(always)]
    fn is_on_record(&self) -> bool {
        false
    }

    #[inline(always)]
    fn save(&self, _bytes: &mut [u8; HELD_BYTES], _length: u32) -> bool {
        false
    }

    #[inline(always)]
    fn replay(&mut self, _bytes: &[u8; HELD_BYTES], _length: u32) {}

    #[inline(always)]
    fn restore(&mut self, _bytes: &[u8; HELD_BYTES], _length: u32) -> bool {
        false
    }
}
