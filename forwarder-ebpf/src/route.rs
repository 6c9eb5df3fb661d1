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
    flow::{FlowKey, Route},
    parse::Packet,
    reason::Reason,
    settings::Settings,
};

use crate::{hook::Hook, maps::DEVICES};

/// Index of `lo` in every network namespace (`LOOPBACK_IFINDEX` in include/net/flow.h).
const LOOPBACK: u32 = 1;

/// What the kernel's tables say of a destination.
#[derive(Clone, Copy)]
pub struct Resolved {
    /// The way out. While the next hop's MAC address is not known it is of generation 0, so that the next
    /// packet asks again.
    pub route: Route,
    /// Address of the next hop: the gateway, or the destination itself; 0.0.0.0 for a gateway of the
    /// other family (RFC 8950), whose address the kernel looks up again itself.
    pub next_hop: V4,
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
    // Before asking: a change while the kernel answers must make this answer old.
    // SAFETY: a reference, read as the volatile value that userspace makes it.
    let generation = unsafe { (&raw const settings.generation).read_volatile() };
    fill(fib, packet, to);
    let answer = ask(hook, fib)?;
    let route = match answer {
        Answer::Neighbour if H::FAST => return Err(Reason::NoNeighbour),
        // The kernel sends this one, and looks at its length then.
        Answer::Neighbour => Route::new(fib.ifindex, 0, Macs::default(), u16::MAX, 0),
        Answer::Route => {
            // SAFETY: as in `plan::refresh`.
            let device = unsafe { DEVICES.get(fib.ifindex) }.ok_or(Reason::UnknownDevice)?;
            // SAFETY: every member of the union is a 16-bit integer.
            let route_mtu = unsafe { fib.__bindgen_anon_1.mtu_result };
            Route::new(
                fib.ifindex,
                generation,
                Macs::new(fib.dmac, fib.smac),
                mtu(device, route_mtu),
                device.flags as u16,
            )
        }
    };
    // The helper has put the gateway in place of the destination, and its family in place of ours.
    let next_hop = if fib.family == V4::FAMILY {
        // SAFETY: of this family, so the IPv4 member is the one that is filled in.
        V4::from_raw(unsafe { fib.__bindgen_anon_4.ipv4_dst })
    } else {
        V4::default()
    };
    Ok(Resolved { route, next_hop })
}

/// The way back to where `packet` came from, by the `device` it came in by.
#[inline(always)]
pub fn back<H: Hook>(hook: &H, packet: &Packet, device: &Device, settings: &Settings) -> Route {
    Route::new(
        hook.ingress(),
        settings.generation,
        packet.macs.swapped(),
        mtu(device, 0),
        device.flags as u16,
    )
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
    // 1 asks for the route's MTU in return (since 5.12, commit e1850ea9bd9e; the field stays 1 before).
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
pub fn check_addressee<H: Hook>(hook: &H, packet: &Packet) -> Result<&'static Device, Reason> {
    // SAFETY: as in `plan::refresh`.
    let device = unsafe { DEVICES.get(hook.ingress()) }.ok_or(Reason::UnknownDevice)?;
    if !packet.macs.is_for(device.mac) {
        return Err(Reason::OtherHost);
    }
    Ok(device)
}
