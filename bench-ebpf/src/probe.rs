//! The probe: makes packets and has another program look at each, under a test run.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_PASS},
    macros::{map, xdp},
    maps::ProgramArray,
    programs::XdpContext,
};

use crate::{
    generator::{choose, parts},
    wire::{LENGTH_V4, LENGTH_V6, Offsets, V4, V6},
};

/// Whom the probe calls.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Has the program in [`TARGET`] look at the generator's next packet, over IPv4.
#[xdp]
pub fn probe_v4(context: XdpContext) -> u32 {
    probe::<{ LENGTH_V4 / 4 }>(&context, &V4).unwrap_or(XDP_ABORTED)
}

/// The same over IPv6.
#[xdp]
pub fn probe_v6(context: XdpContext) -> u32 {
    probe::<{ LENGTH_V6 / 4 }>(&context, &V6).unwrap_or(XDP_ABORTED)
}

/// What the probe costs without the other program.
#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

#[inline(always)]
fn probe<const WORDS: usize>(context: &XdpContext, at: &Offsets) -> Option<u32> {
    let (start, plan, progress) = parts::<WORDS>(context)?;
    let fields = plan.fields(choose(plan, progress));
    // SAFETY: the frame's bounds have been checked; frames of a test run begin at a multiple of eight.
    unsafe { plan.write::<WORDS>(start as *mut u8, at, fields) };
    progress.sent += 1;
    // SAFETY: nothing here has a destructor that would be skipped.
    unsafe { TARGET.tail_call(context, 0) };
    None
}
