//! The slow path, TC ingress, and what this host itself sends, TC egress.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};
use forwarder_common::{
    address::{V4, V6},
    device::NO_METADATA,
    reason::Reason,
};

use crate::{
    account, answer, clamp, error, fragment, front,
    maps::DEVICES,
    open, pipeline, query, reserve,
    skb::{self, HEADERS, QUOTE, SkbFrame},
};

/// On devices without XDP: the whole pipeline for every packet.
#[classifier]
#[inline(always)]
pub fn forwarder_tc(context: TcContext) -> i32 {
    run::<false>(&context)
}

/// On devices with XDP: only what XDP has marked as ours. Everything else has been looked at already.
#[classifier]
#[inline(always)]
pub fn forwarder_slow(context: TcContext) -> i32 {
    if is_for_slow_path(&context) {
        run::<false>(&context)
    } else {
        TC_ACT_UNSPEC
    }
}

/// On TC egress: what this host itself sends. What it merely forwards has come in by a device.
#[classifier]
#[inline(always)]
pub fn forwarder_egress(context: TcContext) -> i32 {
    if is_own(&context) {
        run::<true>(&context)
    } else {
        TC_ACT_UNSPEC
    }
}

/// Whether XDP has left the packet to TC, or may have: it cannot say so on every device.
#[inline(always)]
pub fn is_for_slow_path(context: &TcContext) -> bool {
    skb::mark(context).is_some() || !has_metadata(context)
}

/// Whether this host itself has sent the packet.
#[inline(always)]
pub fn is_own(context: &TcContext) -> bool {
    // SAFETY: the context is the kernel's.
    unsafe { (*context.skb.skb).ingress_ifindex == 0 }
}

macro_rules! stage {
    ($name:ident, $egress:literal, $bytes:ident, $family:ty, $stage:path) => {
        /// See [`forwarder_common::stage::Stage`].
        #[classifier]
        #[inline(always)]
        pub fn $name(context: TcContext) -> i32 {
            let Some(mut frame) = SkbFrame::<$egress>::new(&context, $bytes) else {
                return out_of_memory();
            };
            pipeline::stage::<_, $family>(&mut frame, |hook, link| $stage(hook, link))
        }
    };
}

macro_rules! bare {
    ($name:ident, $egress:literal, $family:ty, $stage:path) => {
        /// See [`forwarder_common::stage::Stage`].
        #[classifier]
        #[inline(always)]
        pub fn $name(context: TcContext) -> i32 {
            pipeline::bare::<_, $family>(&SkbFrame::<$egress>::untouched(&context), || $stage())
        }
    };
}

bare!(tc_reserve_v4, false, V4, reserve::run::<V4>);
bare!(tc_reserve_v6, false, V6, reserve::run::<V6>);
bare!(egress_reserve_v4, true, V4, reserve::run::<V4>);
bare!(egress_reserve_v6, true, V6, reserve::run::<V6>);
stage!(tc_open_v4, false, HEADERS, V4, open::run::<_, V4>);
stage!(tc_open_v6, false, HEADERS, V6, open::run::<_, V6>);
stage!(tc_clamp_v4, false, QUOTE, V4, clamp::run::<_, V4>);
stage!(tc_clamp_v6, false, QUOTE, V6, clamp::run::<_, V6>);
stage!(tc_error_v4, false, QUOTE, V4, error::run::<_, V4>);
stage!(tc_error_v6, false, QUOTE, V6, error::run::<_, V6>);
stage!(tc_fragment_v4, false, HEADERS, V4, fragment::run::<_, V4>);
stage!(tc_fragment_v6, false, HEADERS, V6, fragment::run::<_, V6>);
stage!(tc_query_v4, false, QUOTE, V4, query::run::<_>);
stage!(tc_answer_v4, false, QUOTE, V4, answer::run::<_, V4>);
stage!(tc_answer_v6, false, QUOTE, V6, answer::run::<_, V6>);
stage!(egress_open_v4, true, HEADERS, V4, open::run::<_, V4>);
stage!(egress_open_v6, true, HEADERS, V6, open::run::<_, V6>);
stage!(egress_clamp_v4, true, QUOTE, V4, clamp::run::<_, V4>);
stage!(egress_clamp_v6, true, QUOTE, V6, clamp::run::<_, V6>);
stage!(egress_error_v4, true, QUOTE, V4, error::run::<_, V4>);
stage!(egress_error_v6, true, QUOTE, V6, error::run::<_, V6>);
stage!(
    egress_fragment_v4,
    true,
    HEADERS,
    V4,
    fragment::run::<_, V4>
);
stage!(
    egress_fragment_v6,
    true,
    HEADERS,
    V6,
    fragment::run::<_, V6>
);

/// Whether XDP can mark packets on this device at all.
#[inline(always)]
fn has_metadata(context: &TcContext) -> bool {
    // SAFETY: the context is the kernel's.
    let ingress = unsafe { (*context.skb.skb).ingress_ifindex };
    match DEVICES.get_ptr(ingress) {
        Some(device) => {
            // SAFETY: `get_ptr` returned a live map value.
            let flags = unsafe { (*device).flags };
            flags & NO_METADATA == 0
        }
        None => true,
    }
}

#[inline(always)]
fn run<const EGRESS: bool>(context: &TcContext) -> i32 {
    match SkbFrame::<EGRESS>::of_any(context) {
        Some(mut frame) => front::run(&mut frame),
        None => out_of_memory(),
    }
}

/// Counts a packet whose headers could not be had, and drops it.
#[inline(always)]
pub fn out_of_memory() -> i32 {
    account::refused(Reason::SlowPathFailed);
    aya_ebpf::bindings::TC_ACT_SHOT
}
