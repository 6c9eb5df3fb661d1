//! The same programs once more, with copies of what they translate. They take the others' places while somebody looks,
//! so that without anybody looking there is nothing of it in the way of a packet.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::TC_ACT_UNSPEC,
    helpers::bpf_ktime_get_ns,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use forwarder_common::{
    address::{V4, V6},
    capture::{AFTER, ANY_RULE, REPLY, SLOW, Sample, UNADDRESSED},
    checksum::Delta,
    flow::Route,
    frame::{Frame, Transport},
    parse::Tag,
    reason::{Reason, Verdict},
};

use crate::{
    error, front,
    hook::Hook,
    maps::{CAPTURE, Family, SAMPLE, SAMPLES},
    pipeline,
    skb::{QUOTE, SkbFrame},
    tc::{self, is_for_slow_path, is_own},
    window::Window,
    xdp::XdpFrame,
};

/// As [`crate::xdp::forwarder_xdp`].
#[xdp]
#[inline(always)]
pub fn capture_forwarder_xdp(context: XdpContext) -> u32 {
    front::run(&mut Captured::new(XdpFrame::new(&context))) as u32
}

/// As [`crate::tc::forwarder_tc`].
#[classifier]
#[inline(always)]
pub fn capture_forwarder_tc(context: TcContext) -> i32 {
    run::<false>(&context)
}

/// As [`crate::tc::forwarder_slow`].
#[classifier]
#[inline(always)]
pub fn capture_forwarder_slow(context: TcContext) -> i32 {
    if is_for_slow_path(&context) {
        run::<false>(&context)
    } else {
        TC_ACT_UNSPEC
    }
}

/// As [`crate::tc::forwarder_egress`].
#[classifier]
#[inline(always)]
pub fn capture_forwarder_egress(context: TcContext) -> i32 {
    if is_own(&context) {
        run::<true>(&context)
    } else {
        TC_ACT_UNSPEC
    }
}

#[inline(always)]
fn run<const EGRESS: bool>(context: &TcContext) -> i32 {
    match SkbFrame::<EGRESS>::of_any(context) {
        Some(frame) => front::run(&mut Captured::new(frame)),
        None => tc::out_of_memory(),
    }
}

macro_rules! xdp_main {
    ($name:ident, $family:ty) => {
        /// As [`forwarder_common::stage::Stage::Main`] on XDP.
        #[xdp]
        #[inline(always)]
        pub fn $name(context: XdpContext) -> u32 {
            let mut frame = Captured::new(XdpFrame::new(&context));
            let value = match pipeline::enter(&mut frame) {
                Ok(link) => pipeline::main::<_, $family>(&mut frame, &link),
                Err(reason) => pipeline::refuse(&frame, reason),
            };
            value as u32
        }
    };
}

macro_rules! xdp_error {
    ($name:ident, $family:ty) => {
        /// As [`forwarder_common::stage::Stage::Error`] on XDP.
        #[xdp]
        #[inline(always)]
        pub fn $name(context: XdpContext) -> u32 {
            let mut frame = Captured::new(XdpFrame::new(&context));
            pipeline::stage::<_, $family>(&mut frame, error::run::<_, $family>) as u32
        }
    };
}

macro_rules! tc_error {
    ($name:ident, $egress:literal, $family:ty) => {
        /// As [`forwarder_common::stage::Stage::Error`] on TC.
        #[classifier]
        #[inline(always)]
        pub fn $name(context: TcContext) -> i32 {
            let Some(frame) = SkbFrame::<$egress>::new(&context, QUOTE) else {
                return tc::out_of_memory();
            };
            let mut frame = Captured::new(frame);
            pipeline::stage::<_, $family>(&mut frame, error::run::<_, $family>)
        }
    };
}

xdp_main!(capture_xdp_main_v4, V4);
xdp_main!(capture_xdp_main_v6, V6);
xdp_error!(capture_xdp_error_v4, V4);
xdp_error!(capture_xdp_error_v6, V6);
tc_error!(capture_tc_error_v4, false, V4);
tc_error!(capture_tc_error_v6, false, V6);
tc_error!(capture_egress_error_v4, true, V4);
tc_error!(capture_egress_error_v6, true, V6);

/// A packet of which copies are made at the commit line and when it is finished.
struct Captured<H> {
    hook: H,
    /// Slot of the rule and the sample's flags, once it is known to be wanted.
    wanted: Option<(u32, u32)>,
}

impl<H: Hook> Captured<H> {
    #[inline(always)]
    fn new(hook: H) -> Self {
        Self { hook, wanted: None }
    }

    /// Copies the packet as it is now.
    #[inline(always)]
    fn copy(&self, device: u32, flags: u32) {
        let Some((rule, direction)) = self.wanted else {
            return;
        };
        let (Some(order), Some(sample)) = (CAPTURE.get(0), SAMPLE.get_ptr_mut(0)) else {
            return;
        };
        let length = self.hook.length();
        let captured = if length < order.length {
            length
        } else {
            order.length
        };
        // SAFETY: this CPU's live map value, which nothing else uses until the program ends.
        let sample = unsafe { &mut *sample };
        *sample = Sample {
            // SAFETY: the helper takes no argument and only reads a clock.
            time: unsafe { bpf_ktime_get_ns() },
            rule,
            device,
            length,
            captured,
            flags: flags | direction,
            padding: 0,
        };
        SAMPLES.output(&Context(self.hook.context()), &*sample, captured);
    }
}

/// The context of a program, whatever it is.
struct Context(*mut c_void);

impl EbpfContext for Context {
    #[inline(always)]
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

impl<H: Hook> Frame for Captured<H> {
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        self.hook.at(offset)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.hook.length()
    }

    #[inline(always)]
    fn sum<const N: usize>(&self, offset: usize) -> Option<u32> {
        self.hook.sum::<N>(offset)
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        self.hook.forget(value)
    }

    #[inline(always)]
    fn update_transport_checksum(
        &mut self,
        transport: Transport,
        offset: usize,
        addresses: Delta,
        ports: Delta,
    ) {
        self.hook
            .update_transport_checksum(transport, offset, addresses, ports);
    }
}

impl<H: Hook> Hook for Captured<H> {
    const INDEX: usize = H::INDEX;
    const FAST: bool = H::FAST;
    const EGRESS: bool = H::EGRESS;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.hook.context()
    }

    #[inline(always)]
    fn window(&self) -> Window {
        self.hook.window()
    }

    #[inline(always)]
    fn arrive(&mut self, tag: Option<Tag>) -> Result<(), Reason> {
        self.hook.arrive(tag)
    }

    #[inline(always)]
    fn is_fragment(&mut self, is: bool) {
        self.hook.is_fragment(is);
    }

    #[inline(always)]
    fn commit(&mut self, rule: u32, is_original: bool) {
        if CAPTURE
            .get(0)
            .is_some_and(|order| order.rule == rule || order.rule == ANY_RULE)
        {
            let direction = if is_original { 0 } else { REPLY };
            let slow = if H::FAST { 0 } else { SLOW };
            self.wanted = Some((rule, direction | slow));
            let device = if H::EGRESS { 0 } else { self.hook.ingress() };
            self.copy(device, 0);
        }
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.hook.ingress()
    }

    #[inline(always)]
    fn near(&self) -> u32 {
        self.hook.near()
    }

    #[inline(always)]
    fn wire_length(&self, length: u32, headers: u16) -> u32 {
        self.hook.wire_length(length, headers)
    }

    #[inline(always)]
    fn can_send(&self, route: &Route) -> bool {
        self.hook.can_send(route)
    }

    #[inline(always)]
    fn send(&mut self, route: &Route) -> i32 {
        let value = self.hook.send(route);
        self.copy(route.egress.index(), AFTER);
        value
    }

    #[inline(always)]
    fn send_by_neighbour<A: Family>(&self, egress: u32, next_hop: A) -> i32 {
        let value = self.hook.send_by_neighbour(egress, next_hop);
        self.copy(egress, AFTER | UNADDRESSED);
        value
    }

    #[inline(always)]
    fn bounce(&mut self, flags: u32) -> i32 {
        self.hook.bounce(flags)
    }

    #[inline(always)]
    fn reshape(&mut self, length: u32, room: u32) -> bool {
        self.hook.reshape(length, room)
    }

    #[inline(always)]
    fn stay(&self) -> i32 {
        let device = if H::EGRESS { self.hook.near() } else { 0 };
        self.copy(device, AFTER);
        self.hook.stay()
    }

    #[inline(always)]
    fn refuse(&self, verdict: Verdict) -> i32 {
        self.hook.refuse(verdict)
    }

    #[inline(always)]
    fn jump(&self, index: u32) {
        self.hook.jump(index);
    }
}
