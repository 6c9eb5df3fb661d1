//! The kernel's routing and neighbour tables, asked by `bpf_fib_lookup`.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
        BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_UNREACHABLE, bpf_fib_lookup as FibLookup,
    },
    helpers::bpf_fib_lookup,
};
use forwarder_common::{
    address::{Address, V4},
    device::Device,
    ethernet::Macs,
    flow::{DeviceLimits, FlowKey, Route},
    parse::Packet,
    reason::Reason,
    settings::Settings,
};

use crate::{hook::Hook, maps::DEVICES};

/// Index of `lo` in every network namespace (`LOOPBACK_IFINDEX` in include/net/flow.h).
const LOOPBACK: u32 = 1;

/// What the kernel's tables say of a destination.
#[derive(Clone, Copy)]
pub enum Resolved {
    /// Everything is known.
    Route(Route),
    /// The next hop's MAC address is not.
    Neighbour {
        /// Device it is on.
        egress: u32,
        /// Its address.
        next_hop: V4,
    },
}

impl Resolved {
    /// The egress device.
    #[inline(always)]
    pub const fn egress(&self) -> u32 {
        match self {
            Self::Route(route) => route.egress,
            Self::Neighbour { egress, .. } => *egress,
        }
    }
}

/// Asks for the way to `to`'s destination, with `fib` for the question. The source is the client's, as
/// netfilter routes between DNAT and SNAT.
#[inline(always)]
pub fn resolve<H: Hook>(
    hook: &H,
    packet: &Packet,
    to: &FlowKey<V4>,
    settings: &Settings,
    fib: &mut FibLookup,
) -> Result<Resolved, Reason> {
    fill(fib, packet, to);
    match ask(hook, fib)? {
        Answer::Neighbour if H::FAST => Err(Reason::NoNeighbour),
        Answer::Neighbour => Ok(Resolved::Neighbour {
            egress: fib.ifindex,
            // SAFETY: the helper has filled in the IPv4 member.
            next_hop: V4::from_raw(unsafe { fib.__bindgen_anon_4.ipv4_dst }),
        }),
        Answer::Route => {
            // SAFETY: as in `plan::refresh`.
            let device = unsafe { DEVICES.get(fib.ifindex) }.ok_or(Reason::UnknownDevice)?;
            // SAFETY: every member of the union is a 16-bit integer.
            let route_mtu = unsafe { fib.__bindgen_anon_1.mtu_result };
            Ok(Resolved::Route(Route::new(
                fib.ifindex,
                settings.generation,
                Macs::new(fib.dmac, fib.smac),
                limits(device, route_mtu),
            )))
        }
    }
}

enum Answer {
    Route,
    Neighbour,
}

#[inline(always)]
fn fill(fib: &mut FibLookup, packet: &Packet, to: &FlowKey<V4>) {
    // SAFETY: all-zero is a valid value of this plain C struct.
    *fib = unsafe { core::mem::zeroed() };
    fib.family = V4::FAMILY;
    fib.l4_protocol = to.protocol;
    fib.sport = packet.key.source_port_be;
    fib.dport = to.destination_port_be;
    // 1 asks for the route's MTU in return (since 5.13, commit 35fb1e25ac; the field stays 1 before).
    fib.__bindgen_anon_1.tot_len = 1;
    fib.__bindgen_anon_2.tos = packet.tos;
    fib.__bindgen_anon_3.ipv4_src = packet.key.source.raw();
    fib.__bindgen_anon_4.ipv4_dst = to.destination.raw();
}

/// Calls the helper, a second time as if from `lo` where forwarding is off on the ingress device: the
/// helper refuses such devices, and the forwarder must not need `ip_forward`.
#[inline(always)]
fn ask<H: Hook>(hook: &H, fib: &mut FibLookup) -> Result<Answer, Reason> {
    fib.ifindex = hook.ingress();
    let mut answer = call(hook, fib);
    if answer == i64::from(BPF_FIB_LKUP_RET_FWD_DISABLED) {
        fib.ifindex = LOOPBACK;
        answer = call(hook, fib);
    }
    if answer < 0 {
        return Err(Reason::NotForwarded);
    }
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Ok(Answer::Route),
        BPF_FIB_LKUP_RET_NO_NEIGH => Ok(Answer::Neighbour),
        BPF_FIB_LKUP_RET_BLACKHOLE | BPF_FIB_LKUP_RET_UNREACHABLE | BPF_FIB_LKUP_RET_PROHIBIT => {
            Err(Reason::Unroutable)
        }
        BPF_FIB_LKUP_RET_FWD_DISABLED => Err(Reason::ForwardingDisabled),
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Err(Reason::TooBig),
        _ => Err(Reason::NotForwarded),
    }
}

#[inline(always)]
fn call<H: Hook>(hook: &H, fib: &mut FibLookup) -> i64 {
    let size = size_of::<FibLookup>() as i32;
    // SAFETY: `fib` lives across the call and `size` is its size.
    unsafe { bpf_fib_lookup(hook.context(), fib, size, 0) }
}

/// What `device` adds to a route whose own MTU is `route`, unknown below 68 (RFC 791's minimum).
#[inline(always)]
pub fn limits(device: &Device, route: u16) -> DeviceLimits {
    DeviceLimits {
        mtu: mtu(device, route),
        flags: device.flags as u16,
    }
}

#[inline(always)]
fn mtu(device: &Device, route: u16) -> u16 {
    let device = if device.mtu > 65535 {
        u16::MAX
    } else {
        device.mtu as u16
    };
    if route >= 68 && route < device {
        route
    } else {
        device
    }
}

/// Checks that the frame is addressed to its ingress device and returns what that device
/// adds to the way back.
#[inline(always)]
pub fn check_addressee<H: Hook>(hook: &H, packet: &Packet) -> Result<DeviceLimits, Reason> {
    // SAFETY: as in `plan::refresh`.
    let device = unsafe { DEVICES.get(hook.ingress()) }.ok_or(Reason::UnknownDevice)?;
    if !packet.macs.is_for(device.mac) {
        return Err(Reason::OtherHost);
    }
    Ok(limits(device, 0))
}
