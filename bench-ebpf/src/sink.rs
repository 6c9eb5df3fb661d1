//! The sink: counts what arrives, and how long it was on its way.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action::XDP_DROP},
    helpers::bpf_ktime_get_ns,
    macros::{classifier, map, xdp},
    maps::Array,
    programs::{TcContext, XdpContext},
};

use crate::{
    count::{BUCKETS, Counted, Expected, bucket},
    half,
    wire::{STAMP, V4, V6},
};

/// What should arrive.
#[map]
pub static EXPECTED: Array<Expected> = Array::with_max_entries(1, 0);

/// What has arrived. Not per CPU: see [`Counted`].
#[map]
pub static COUNTED: Array<Counted> = Array::with_max_entries(1, 0);

/// How long packets with stamps were on their way.
#[map]
static LATENCY: Array<u64> = Array::with_max_entries(BUCKETS, 0);

/// An IPv4 header and one of TCP, or both addresses of IPv6: a gateway may have cut off the padding.
const SHORTEST: usize = 54;

/// Ends everything, and counts it.
#[xdp]
pub fn sink(context: XdpContext) -> u32 {
    count(&context);
    XDP_DROP
}

/// The same for what comes from a stack, which may have put many segments into one packet. It has no program on XDP
/// before it: that would have the stack take them apart again, which on a card is the card's work.
#[classifier]
pub fn sink_tc(context: TcContext) -> i32 {
    count_segments(&context);
    TC_ACT_SHOT
}

/// Ethernet, IPv4 and TCP of one segment.
const HEADERS: u64 = 54;

#[inline(always)]
fn count_segments(context: &TcContext) -> Option<()> {
    // SAFETY: the maps live as long as the program; see [`Counted`] for who writes.
    let counted = unsafe { &mut *COUNTED.get_ptr_mut(0)? };
    // SAFETY: as above.
    let expected = unsafe { &*EXPECTED.get_ptr(0)? };
    let start = context.data();
    let at = start + V4.destination;
    // SAFETY: the context is the program's own; zero where nothing was put together.
    let segments = unsafe { (*context.skb.skb).gso_segs }.max(1);
    let wanted = start + SHORTEST <= context.data_end()
        && half(start + 12) == 0x0800_u16.to_be()
        && u32::from(half(at)) | u32::from(half(at + 2)) << 16 == expected.destination;
    if !wanted {
        counted.others += u64::from(segments);
        return None;
    }
    counted.packets += u64::from(segments);
    // As on a cable.
    counted.bytes += u64::from(context.len()) + u64::from(segments - 1) * HEADERS;
    Some(())
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
