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
    device::{Device, LEAVING},
    ethernet::Macs,
    flow::{Egress, FlowKey, Route},
    parse::Facts,
    reason::Reason,
    rule::LOCAL,
    settings::Settings,
};

use crate::{
    hook::Hook,
    maps::{DEVICES, Family},
};

/// What the kernel's tables say of a destination.
#[derive(Clone, Copy)]
pub struct Resolved<A> {
    /// The way out.
    pub route: Route,
    /// The generation it was asked under; 0 while the next hop's MAC address is not known, so that the next packet
    /// asks again.
    pub generation: u32,
    /// Address of the next hop: the gateway, or the destination itself; zero for a gateway of the other
    /// family (RFC 8950), whose address the kernel looks up again itself.
    pub next_hop: A,
}

/// Asks for the way to `to`'s destination, with `fib` for the question. The source is that of `from`, as
/// netfilter routes between DNAT and SNAT.
#[inline(always)]
pub fn resolve<H: Hook, A: Family>(
    hook: &H,
    tos: u8,
    from: &FlowKey<A>,
    to: &FlowKey<A>,
    settings: &Settings,
    fib: &mut FibLookup,
) -> Result<Resolved<A>, Reason> {
    // Before asking: a change while the kernel answers must make this answer old.
    // SAFETY: a reference, read as the volatile value that userspace makes it.
    let generation = unsafe { (&raw const settings.generation).read_volatile() };
    fill(fib, tos, from, to);
    let answer = ask(hook, fib)?;
    // SAFETY: as in `plan::refresh`.
    let device = unsafe { DEVICES.get(fib.ifindex) }.ok_or(Reason::UnknownDevice)?;
    // SAFETY: every member of the union is a 16-bit integer.
    let mtu = mtu(device, unsafe { fib.__bindgen_anon_1.mtu_result });
    let (macs, generation) = match answer {
        Answer::Neighbour if H::FAST => return Err(Reason::NoNeighbour),
        // The kernel writes the MACs, and asks for them first.
        Answer::Neighbour => (Macs::default(), 0),
        Answer::Route => (Macs::new(fib.dmac, fib.smac), generation),
    };
    let route = Route {
        egress: Egress::new(fib.ifindex, device.flags),
        macs,
        mtu,
        mss: 0,
    };
    // The helper has put the gateway in place of the destination, and its family in place of ours.
    let next_hop = if fib.family == A::FAMILY {
        A::next_hop(fib)
    } else {
        A::default()
    };
    Ok(Resolved {
        route,
        generation,
        next_hop,
    })
}

/// The way back to where `packet` came from, by the `device` it came in by.
#[inline(always)]
pub fn back<H: Hook>(hook: &H, packet: &Facts, device: &Device) -> Route {
    Route {
        egress: Egress::new(hook.ingress(), device.flags),
        macs: packet.macs.swapped(),
        mtu: mtu(device, 0),
        mss: 0,
    }
}

enum Answer {
    Route,
    Neighbour,
}

#[inline(always)]
fn fill<A: Family>(fib: &mut FibLookup, tos: u8, from: &FlowKey<A>, to: &FlowKey<A>) {
    // SAFETY: all-zero is a valid value of this plain C struct.
    *fib = unsafe { core::mem::zeroed() };
    fib.family = A::FAMILY;
    fib.l4_protocol = to.protocol;
    fib.sport = from.source_port_be;
    fib.dport = to.destination_port_be;
    // 1 asks for the route's MTU in return (since 5.12, commit e1850ea9bd9e; the field stays 1 before).
    fib.__bindgen_anon_1.tot_len = 1;
    if !A::IPV6 {
        // For IPv6 the field is the flow label, by which nobody routes.
        fib.__bindgen_anon_2.tos = tos;
    }
    A::fill(fib, from.source, to.destination);
}

/// Calls the helper, a second time as if from `lo` where forwarding is off on the ingress device: the
/// helper refuses such devices, and the forwarder must not need `ip_forward`.
#[inline(always)]
fn ask<H: Hook>(hook: &H, fib: &mut FibLookup) -> Result<Answer, Reason> {
    fib.ifindex = hook.ingress();
    let mut answer = call(hook, fib);
    if answer == i64::from(BPF_FIB_LKUP_RET_FWD_DISABLED) {
        fib.ifindex = LOCAL;
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

/// The smaller of the device's MTU and the route's, which is unknown below 68 (RFC 791's minimum).
#[inline(always)]
pub fn mtu(device: &Device, route: u16) -> u16 {
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

/// Checks that the frame is addressed to its ingress device and returns that device.
#[inline(always)]
pub fn check_addressee<H: Hook>(hook: &H, packet: &Facts) -> Result<&'static Device, Reason> {
    // SAFETY: as in `plan::refresh`.
    let device = unsafe { DEVICES.get(hook.ingress()) }.ok_or(Reason::UnknownDevice)?;
    if !packet.macs.is_for(device.mac) {
        return Err(Reason::OtherHost);
    }
    Ok(device)
}

/// As [`check_addressee`] for a packet that would open a flow.
#[inline(always)]
pub fn check_opener<H: Hook>(hook: &H, packet: &Facts) -> Result<&'static Device, Reason> {
    let device = check_addressee(hook, packet)?;
    if device.flags & LEAVING != 0 {
        return Err(Reason::NoRule);
    }
    Ok(device)
}
