//! Both ends of TCP connections, each at the far end of a gateway's cable. The generator says the first word.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP},
    helpers::{bpf_redirect, bpf_xdp_adjust_tail},
    macros::xdp,
    programs::XdpContext,
};

use crate::{
    count::{Counted, Expected},
    half,
    sink::{COUNTED, EXPECTED},
    tcp::{self, Extent, MESSAGE, OPTIONS, Segment, Turn},
    wire::{V4, fold},
};

/// Ethernet, and IPv4 and TCP without options.
const HEADERS: usize = 54;

/// Halves of the latter two.
const HALVES: usize = (HEADERS - 14) / 2;

/// The shortest frame that Ethernet carries.
const SHORTEST: usize = 60;

/// Answers as a server does.
#[xdp]
pub fn server(context: XdpContext) -> u32 {
    play(&context, |expected, ends, heard| {
        let wanted = ends.destination == expected.destination;
        wanted.then(|| tcp::server(heard, extent(expected)))
    })
}

/// Answers as a client does.
#[xdp]
pub fn client(context: XdpContext) -> u32 {
    play(&context, |expected, ends, heard| {
        // An answer from elsewhere than where the SYN went has not been translated back.
        let wanted = ends.source == expected.source;
        wanted.then(|| tcp::client(heard, extent(expected)))
    })
}

#[inline(always)]
fn extent(expected: &Expected) -> Extent {
    if expected.whole == 0 {
        Extent::Open
    } else {
        Extent::Whole
    }
}

/// Addresses in the order of the packet.
struct Ends {
    source: u32,
    destination: u32,
}

/// Takes a turn. The programs of both ends run on the gateway's CPU, so that they may count in one place.
#[inline(always)]
fn play(context: &XdpContext, turn: impl Fn(&Expected, &Ends, &Segment) -> Option<Turn>) -> u32 {
    let (Some(expected), Some(counted)) = (EXPECTED.get_ptr(0), COUNTED.get_ptr_mut(0)) else {
        return XDP_ABORTED;
    };
    // SAFETY: the map lives as long as the program.
    let expected: &Expected = unsafe { &*expected };
    // SAFETY: as above; see [`Counted`] for who writes.
    let counted: &mut Counted = unsafe { &mut *counted };
    let Some((ends, heard)) = hear(context) else {
        return XDP_DROP;
    };
    match turn(expected, &ends, &heard) {
        Some(Turn::Say(said)) => say(context, &said).unwrap_or(XDP_ABORTED),
        Some(Turn::Over) => {
            counted.packets += 1;
            XDP_DROP
        }
        Some(Turn::Broken) | None => {
            counted.others += 1;
            XDP_DROP
        }
    }
}

/// The segment in a frame, if it is one of TCP over IPv4; neither end sends IP options.
#[inline(always)]
fn hear(context: &XdpContext) -> Option<(Ends, Segment)> {
    let start = context.data();
    if start + HEADERS > context.data_end() {
        return None;
    }
    let byte = |at: usize| (half(start + (at & !1)).to_ne_bytes())[at & 1];
    let is_tcp = half(start + 12) == 0x0800_u16.to_be() && byte(14) == 0x45 && byte(23) == 6;
    if !is_tcp {
        return None;
    }
    let two = |at: usize| u32::from(u16::from_be(half(start + at)));
    let four = |at: usize| two(at) << 16 | two(at + 2);
    let raw = |at: usize| u32::from(half(start + at)) | u32::from(half(start + at + 2)) << 16;
    let offset = u32::from(byte(V4.transport + 12) >> 4) * 4;
    let segment = Segment {
        flags: byte(V4.transport + 13),
        sequence: four(V4.transport + 4),
        acknowledged: four(V4.transport + 8),
        // By IP's own count: what Ethernet wants beyond is padding.
        payload: two(16).saturating_sub(20 + offset),
    };
    let ends = Ends {
        source: raw(V4.source),
        destination: raw(V4.destination),
    };
    Some((ends, segment))
}

/// Makes the answer out of the frame and sends it back.
#[inline(always)]
fn say(context: &XdpContext, said: &Segment) -> Option<u32> {
    let options = if said.flags & tcp::SYN != 0 {
        OPTIONS.len()
    } else {
        0
    };
    let payload = said.payload as usize;
    let length = (HEADERS + options + payload).max(SHORTEST);
    let longer = length as i32 - (context.data_end() - context.data()) as i32;
    // SAFETY: the context is the program's own; packet pointers are taken anew below.
    if longer != 0 && unsafe { bpf_xdp_adjust_tail(context.ctx, longer) } != 0 {
        return None;
    }
    let (start, end) = (context.data(), context.data_end());
    if start + SHORTEST > end {
        return None;
    }
    turn_round(start);
    let headers = headers(start, said, options);
    for (index, value) in headers.into_iter().enumerate() {
        put(start + 14 + 2 * index, value);
    }
    if options > 0 {
        if start + HEADERS + OPTIONS.len() > end {
            return None;
        }
        for index in 0..OPTIONS.len() / 2 {
            put(start + HEADERS + 2 * index, option(index));
        }
    } else if payload > 0 {
        if start + HEADERS + MESSAGE as usize > end {
            return None;
        }
        // All zeros, so that they count nothing in the checksum.
        for index in 0..MESSAGE as usize / 2 {
            put(start + HEADERS + 2 * index, 0);
        }
    }
    // SAFETY: the context is the program's own, and the helper has no conditions.
    let device = unsafe { (*context.ctx).ingress_ifindex };
    // SAFETY: as above. XDP_TX would not wake a veth device that has no program.
    Some(unsafe { bpf_redirect(device, 0) } as u32)
}

/// Changes the MACs over.
#[inline(always)]
fn turn_round(start: usize) {
    for index in 0..3 {
        let (near, far) = (start + 2 * index, start + 6 + 2 * index);
        let [a, b] = [near, far].map(half);
        put(near, b);
        put(far, a);
    }
}

/// The headers of IPv4 and TCP in halves, in the order of the packet; ends are those of the frame, changed over.
#[inline(always)]
fn headers(start: usize, said: &Segment, options: usize) -> [u16; HALVES] {
    let offset = ((20 + options) / 4) as u16;
    let segment = (20 + options) as u16 + said.payload as u16;
    let [source, destination] = [V4.destination, V4.source];
    let high = |number: u32| ((number >> 16) as u16).to_be();
    let low = |number: u32| (number as u16).to_be();
    let mut halves = [
        0x4500_u16.to_be(),
        (20 + segment).to_be(),
        0,
        // Never to be fragmented.
        0x4000_u16.to_be(),
        0x4006_u16.to_be(),
        0,
        half(start + source),
        half(start + source + 2),
        half(start + destination),
        half(start + destination + 2),
        half(start + V4.transport + 2),
        half(start + V4.transport),
        high(said.sequence),
        low(said.sequence),
        high(said.acknowledged),
        low(said.acknowledged),
        (offset << 12 | u16::from(said.flags)).to_be(),
        0xffff,
        0,
        0,
    ];
    halves[5] = !fold(sum(&halves[..10]));
    let mut total = sum(&halves[6..]);
    total += u32::from(6_u16.to_be()) + u32::from(segment.to_be());
    if options > 0 {
        for index in 0..OPTIONS.len() / 2 {
            total += u32::from(option(index));
        }
    }
    halves[18] = !fold(total);
    halves
}

#[inline(always)]
fn sum(halves: &[u16]) -> u32 {
    halves.iter().map(|half| u32::from(*half)).sum()
}

#[inline(always)]
fn option(index: usize) -> u16 {
    u16::from_ne_bytes([OPTIONS[2 * index], OPTIONS[2 * index + 1]])
}

#[inline(always)]
fn put(at: usize, half: u16) {
    // SAFETY: every caller has checked that this is within the packet; offsets are even.
    unsafe { *(at as *mut u16) = half };
}
