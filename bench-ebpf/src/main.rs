//! The bench's own programs.
//!
//! `generator` makes packets out of the live frames of a test run, `sink` counts what arrives, `ceiling` is a gateway
//! that does no more than any gateway must, `probe` makes packets and has another program look at them, and the empty
//! programs are what running nothing costs.
#![no_std]
#![no_main]

mod wire;

use aya_ebpf::{
    bindings::{
        TC_ACT_UNSPEC,
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    },
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    macros::{classifier, map, xdp},
    maps::{Array, ProgramArray},
    programs::{TcContext, XdpContext},
};

use wire::{
    BUCKETS, Counted, Expected, LENGTH_V4, LENGTH_V6, Offsets, Plan, Progress, STAMP, V4, V6,
    bucket,
};

/// What to send.
#[map]
static PLAN: Array<Plan> = Array::with_max_entries(1, 0);

/// How far that is.
#[map]
static PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);

/// What should arrive.
#[map]
static EXPECTED: Array<Expected> = Array::with_max_entries(1, 0);

/// What has arrived. Not per CPU: see [`Counted`].
#[map]
static COUNTED: Array<Counted> = Array::with_max_entries(1, 0);

/// How long packets with stamps were on their way.
#[map]
static LATENCY: Array<u64> = Array::with_max_entries(BUCKETS, 0);

/// Whom the probe calls.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The way through the ceiling.
#[map]
static WAY: Array<Way> = Array::with_max_entries(1, 0);

/// Where the ceiling sends everything.
#[repr(C)]
#[derive(Clone, Copy)]
struct Way {
    /// Destination and source, as in the frame.
    macs: [u16; 6],
    device: u32,
}

/// How long packets are waited for before they count as lost; the scheduler may hold a gateway up for a while.
const PATIENCE: u64 = 50_000_000;

/// An IPv4 header and one of TCP, or both addresses of IPv6: a gateway may have cut off the padding.
const SHORTEST: usize = 54;

/// A pause after which the generator does not try to catch up.
const BEHIND: u64 = 200_000;

/// Sends what [`PLAN`] says, over IPv4.
#[xdp]
pub fn generator_v4(context: XdpContext) -> u32 {
    generate::<{ LENGTH_V4 / 4 }>(&context, &V4).unwrap_or(XDP_DROP)
}

/// The same over IPv6.
#[xdp]
pub fn generator_v6(context: XdpContext) -> u32 {
    generate::<{ LENGTH_V6 / 4 }>(&context, &V6).unwrap_or(XDP_DROP)
}

/// Has the program in [`TARGET`] look at the next packet of [`PLAN`], over IPv4.
#[xdp]
pub fn probe_v4(context: XdpContext) -> u32 {
    probe::<{ LENGTH_V4 / 4 }>(&context, &V4).unwrap_or(XDP_ABORTED)
}

/// The same over IPv6.
#[xdp]
pub fn probe_v6(context: XdpContext) -> u32 {
    probe::<{ LENGTH_V6 / 4 }>(&context, &V6).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn probe<const WORDS: usize>(context: &XdpContext, at: &Offsets) -> Option<u32> {
    let start = context.data();
    if start + WORDS * 4 > context.data_end() {
        return None;
    }
    // SAFETY: the map lives as long as the program.
    let plan = unsafe { &*PLAN.get_ptr(0)? };
    // SAFETY: as above, and the probe runs in one thread.
    let progress = unsafe { &mut *PROGRESS.get_ptr_mut(0)? };
    let fields = plan.fields(choose(plan, progress));
    // SAFETY: the frame's bounds have been checked; frames of a test run begin at a multiple of eight.
    unsafe { plan.write::<WORDS>(start as *mut u8, at, fields, 0) };
    progress.sent += 1;
    // SAFETY: nothing here has a destructor that would be skipped.
    unsafe { TARGET.tail_call(context, 0) };
    None
}

/// A frame that is not sent is dropped, which gives it back to the test run at once: waiting is dropping.
#[inline(always)]
fn generate<const WORDS: usize>(context: &XdpContext, at: &Offsets) -> Option<u32> {
    let start = context.data();
    if start + WORDS * 4 > context.data_end() {
        return None;
    }
    // SAFETY: the map lives as long as the program.
    let plan = unsafe { &*PLAN.get_ptr(0)? };
    // SAFETY: as above, and the generator runs in one thread.
    let progress = unsafe { &mut *PROGRESS.get_ptr_mut(0)? };
    if plan.limit != 0 && progress.sent >= plan.limit {
        return None;
    }
    if plan.window != 0 {
        keep_window(plan.window, progress)?;
    }
    let mut now = 0;
    if plan.gap != 0 || plan.stamp != 0 {
        // SAFETY: the helper has no conditions.
        now = unsafe { bpf_ktime_get_ns() };
    }
    if plan.gap != 0 {
        keep_time(plan.gap, progress, now)?;
    }
    let fields = plan.fields(choose(plan, progress));
    let stamp = if plan.stamp != 0 { now } else { 0 };
    // SAFETY: the frame's bounds have been checked; frames of a test run begin at a multiple of eight.
    unsafe { plan.write::<WORDS>(start as *mut u8, at, fields, stamp) };
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

/// `None` while too many packets are on their way.
#[inline(always)]
fn keep_window(window: u32, progress: &mut Progress) -> Option<()> {
    // SAFETY: the map lives as long as the program; what the sink writes at the same time may be seen later.
    let counted = unsafe { &*COUNTED.get_ptr(0)? };
    let received = counted.packets + counted.others;
    let away = progress.sent.wrapping_sub(received + progress.lost);
    // Negative when packets arrive that had been given up.
    if (away as i64) < i64::from(window) {
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
fn choose(plan: &Plan, progress: &mut Progress) -> u32 {
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

/// Ends everything, and counts it.
#[xdp]
pub fn sink(context: XdpContext) -> u32 {
    count(&context);
    XDP_DROP
}

#[inline(always)]
fn count(context: &XdpContext) -> Option<()> {
    // SAFETY: the maps live as long as the program; see [`Counted`] for who writes.
    let counted = unsafe { &mut *COUNTED.get_ptr_mut(0)? };
    // SAFETY: as above.
    let expected = unsafe { &*EXPECTED.get_ptr(0)? };
    let (start, end) = (context.data(), context.data_end());
    let destination = if start + SHORTEST > end {
        None
    } else if half(start + 12) == 0x0800_u16.to_be() {
        Some((V4.destination, V4.transport))
    } else if half(start + 12) == 0x86dd_u16.to_be() {
        Some((V6.destination, V6.transport))
    } else {
        None
    };
    let Some((destination, transport)) = destination else {
        counted.others += 1;
        return None;
    };
    let found =
        u32::from(half(start + destination)) | u32::from(half(start + destination + 2)) << 16;
    if found != expected.destination {
        counted.others += 1;
        return None;
    }
    counted.packets += 1;
    counted.bytes += (end - start) as u64;
    if expected.stamp != 0 {
        // SAFETY: the helper has no conditions.
        let now = unsafe { bpf_ktime_get_ns() };
        let stamp = start + transport + STAMP;
        if stamp + 16 > end {
            return None;
        }
        measure(stamp, now)?;
    }
    Some(())
}

/// Puts a packet into the bucket of its latency; one without a valid stamp is in none.
#[inline(always)]
fn measure(stamp: usize, now: u64) -> Option<()> {
    let mut sent = 0;
    let mut part = 0;
    while part < 4 {
        let [time, complement] = [stamp + 2 * part, stamp + 8 + 2 * part].map(half);
        if time != !complement {
            return None;
        }
        sent |= u64::from(time) << (16 * part);
        part += 1;
    }
    let latency = now.saturating_sub(sent).min(u64::from(u32::MAX)) as u32;
    let slot = LATENCY.get_ptr_mut(bucket(latency))?;
    // SAFETY: the map lives as long as the program; see [`Counted`] for who writes.
    unsafe { *slot += 1 };
    Some(())
}

#[inline(always)]
fn half(at: usize) -> u16 {
    // SAFETY: every caller has checked that this is within the packet; offsets are even.
    unsafe { *(at as *const u16) }
}

/// The least a gateway can do: other MACs, and out.
#[xdp]
pub fn ceiling(context: XdpContext) -> u32 {
    pass_through(&context).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn pass_through(context: &XdpContext) -> Option<u32> {
    let start = context.data();
    if start + 14 > context.data_end() || half(start + 12) == 0x0806_u16.to_be() {
        return None;
    }
    // SAFETY: the map lives as long as the program.
    let way = unsafe { &*WAY.get_ptr(0)? };
    let mut index = 0;
    while index < 6 {
        // SAFETY: the bounds have been checked above.
        unsafe { *(start as *mut u16).wrapping_add(index) = way.macs[index] };
        index += 1;
    }
    // SAFETY: the helper has no conditions.
    Some(unsafe { bpf_redirect(way.device, 0) } as u32)
}

/// What an XDP program costs that does nothing.
#[xdp]
pub fn empty(_: XdpContext) -> u32 {
    XDP_PASS
}

/// What a TC program costs that does nothing.
#[classifier]
pub fn empty_tc(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
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
