//! The generator: packets out of the live frames of a test run.

use aya_ebpf::{
    bindings::xdp_action::XDP_DROP,
    helpers::{bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail},
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};

use crate::{
    sink::COUNTED,
    wire::{
        Fields, HEAD_SEGMENT, LENGTH_V4, LENGTH_V6, Offsets, Plan, Progress, STAMP, SYN_FILL,
        SYN_V4, SYN_V6, V4, V6, put_stamp,
    },
};

/// What to send.
#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);

/// How far that is.
#[map]
static PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);

/// How long packets are waited for before they count as lost; the scheduler may hold a gateway up for a while.
const PATIENCE: u64 = 500_000_000;

/// A pause after which the generator does not try to catch up.
const BEHIND: u64 = 200_000;

/// Sends what [`PLAN`] says, over IPv4.
#[xdp]
pub fn generator_v4(context: XdpContext) -> u32 {
    generate::<{ LENGTH_V4 / 4 }>(&context, &V4, packet).unwrap_or(XDP_DROP)
}

/// The same over IPv6.
#[xdp]
pub fn generator_v6(context: XdpContext) -> u32 {
    generate::<{ LENGTH_V6 / 4 }>(&context, &V6, packet).unwrap_or(XDP_DROP)
}

/// The same of SYNs, over IPv4.
#[xdp]
pub fn syn_v4(context: XdpContext) -> u32 {
    let verdict = generate::<{ SYN_V4 / 4 }>(&context, &V4, packet);
    verdict.and_then(|it| cut(&context, it)).unwrap_or(XDP_DROP)
}

/// The same of SYNs, over IPv6.
#[xdp]
pub fn syn_v6(context: XdpContext) -> u32 {
    let verdict = generate::<{ SYN_V6 / 4 }>(&context, &V6, packet);
    verdict.and_then(|it| cut(&context, it)).unwrap_or(XDP_DROP)
}

/// Cuts off what only filled the last word. This is also what makes the kernel tell the frame how long it is: a frame
/// that comes back longer or shorter than it left keeps that length otherwise (`frame_was_changed` of
/// net/bpf/test_run.c looks at where the packet begins only), and both ends of connections do that.
#[inline(always)]
fn cut(context: &XdpContext, verdict: u32) -> Option<u32> {
    // SAFETY: the context is the program's own, and no packet pointer is used afterwards.
    let result = unsafe { bpf_xdp_adjust_tail(context.ctx, -SYN_FILL) };
    (result == 0).then_some(verdict)
}

/// The same of TCP segments of wire size, over IPv4. Their payload is what the test run was given: no gateway changes
/// it, and writing it each time would make the generator too slow.
#[xdp]
pub fn segments(context: XdpContext) -> u32 {
    generate::<{ HEAD_SEGMENT / 4 }>(&context, &V4, Plan::segment).unwrap_or(XDP_DROP)
}

#[inline(always)]
fn packet(plan: &Plan, progress: &mut Progress) -> Fields {
    plan.fields(choose(plan, progress))
}

/// Where the frame begins, which must have room for a packet of so many words; what to send, and how far that is.
#[inline(always)]
pub fn parts<const WORDS: usize>(
    context: &XdpContext,
) -> Option<(usize, &'static Plan, &'static mut Progress)> {
    let start = context.data();
    if start + WORDS * 4 > context.data_end() {
        return None;
    }
    // SAFETY: the map lives as long as the program.
    let plan = unsafe { &*PLAN.get_ptr(0)? };
    // SAFETY: as above, and only one thread makes packets.
    let progress = unsafe { &mut *PROGRESS.get_ptr_mut(0)? };
    Some((start, plan, progress))
}

/// A frame that is not sent is dropped, which gives it back to the test run at once: waiting is dropping.
#[inline(always)]
fn generate<const WORDS: usize>(
    context: &XdpContext,
    at: &Offsets,
    next: impl Fn(&Plan, &mut Progress) -> Fields,
) -> Option<u32> {
    let (start, plan, progress) = parts::<WORDS>(context)?;
    if plan.limit != 0 && progress.sent >= plan.limit {
        return None;
    }
    if plan.window != 0 && progress.sent & u64::from(plan.burst - 1) == 0 {
        keep_window(plan.window - plan.burst, progress)?;
    }
    let mut now = 0;
    if plan.gap != 0 || plan.stamp != 0 {
        // SAFETY: the helper has no conditions.
        now = unsafe { bpf_ktime_get_ns() };
    }
    if plan.gap != 0 {
        keep_time(plan.gap, progress, now)?;
    }
    let fields = next(plan, progress);
    // SAFETY: the frame's bounds have been checked; frames of a test run begin at a multiple of eight.
    unsafe { plan.write::<WORDS>(start as *mut u8, at, fields) };
    // Which packets have room is known when this is compiled.
    if plan.stamp != 0 && at.transport + STAMP + 16 <= WORDS * 4 {
        // SAFETY: as above.
        unsafe { put_stamp(start as *mut u8, at, now) };
    }
    // SAFETY: the helper has no conditions.
    let moment = || unsafe { bpf_ktime_get_ns() };
    if progress.sent == 0 {
        progress.first = moment();
    }
    progress.sent += 1;
    if progress.sent == plan.limit {
        progress.last = moment();
    }
    // SAFETY: the helper has no conditions.
    Some(unsafe { bpf_redirect(plan.device, 0) } as u32)
}

/// `None` while more packets than this are on their way.
#[inline(always)]
fn keep_window(most: u32, progress: &mut Progress) -> Option<()> {
    // SAFETY: the map lives as long as the program; what the sink writes at the same time may be seen later.
    let counted = unsafe { &*COUNTED.get_ptr(0)? };
    let received = counted.packets + counted.others;
    let away = progress.sent.wrapping_sub(received + progress.lost);
    // Negative when packets arrive that had been given up.
    if (away as i64) <= i64::from(most) {
        return Some(());
    }
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // The first time there is nothing to compare with.
    if received != progress.received || progress.since == 0 {
        progress.received = received;
        progress.since = now;
    } else if now - progress.since > PATIENCE {
        progress.lost += away;
        progress.since = now;
    }
    None
}

/// `None` until the next packet is due.
#[inline(always)]
fn keep_time(gap: u32, progress: &mut Progress, now: u64) -> Option<()> {
    if now < progress.next {
        return None;
    }
    if now - progress.next > BEHIND {
        progress.next = now;
    }
    progress.next += u64::from(gap);
    Some(())
}

#[inline(always)]
pub fn choose(plan: &Plan, progress: &mut Progress) -> u32 {
    if plan.random != 0 {
        // Marsaglia's xorshift; a helper call would cost more than the rest.
        let mut state = progress.random;
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        progress.random = state;
        return ((u64::from(state) * u64::from(plan.flows)) >> 32) as u32;
    }
    let index = progress.index;
    let next = index + 1;
    progress.index = if next >= plan.flows { 0 } else { next };
    index
}
