//! How a packet of a known flow leaves: route, MTU, TTL.

use forwarder_common::{
    address::V4,
    flow::{FlowEntry, Route},
    parse::Packet,
    reason::Reason,
    settings::Settings,
};

use crate::{
    hook::Hook,
    lookup,
    maps::{DEVICES, SCRATCH},
    route::{self, Resolved},
};

/// How a finished packet is sent.
#[derive(Clone, Copy)]
pub enum Way {
    /// As a whole frame by the flow's route.
    Frame,
    /// Out of this device to this next hop, whose MAC the kernel must find first.
    Neighbour(u32, V4),
}

/// Brings `flow`'s route up to date and checks that the packet may take it. Writes no byte of the packet.
#[inline(always)]
pub fn plan<H: Hook>(
    hook: &H,
    packet: &Packet,
    flow: &mut FlowEntry<V4>,
    settings: &Settings,
) -> Result<Way, Reason> {
    follow_arrival(hook, packet, flow, settings)?;
    let mut way = Way::Frame;
    if flow.route.generation != settings.generation {
        way = refresh(hook, packet, flow, settings)?;
    }
    admit(hook, packet, &flow.route)?;
    Ok(way)
}

/// Checks that `packet` may leave by `route`.
#[inline(always)]
pub fn admit<H: Hook>(hook: &H, packet: &Packet, route: &Route) -> Result<(), Reason> {
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if !hook.can_send(route) {
        return Err(Reason::EgressWithoutXdp);
    }
    if hook.wire_length(packet) > u32::from(route.mtu) {
        return Err(Reason::TooBig);
    }
    Ok(())
}

/// Notices a packet that came another way than the one before it: meant for another host, or from a
/// client that has moved, whose replies must now go that way.
#[inline(always)]
fn follow_arrival<H: Hook>(
    hook: &H,
    packet: &Packet,
    flow: &mut FlowEntry<V4>,
    settings: &Settings,
) -> Result<(), Reason> {
    let mark = packet.macs.arrival_mark(hook.ingress());
    if mark == flow.arrival {
        return Ok(());
    }
    let device = route::check_addressee(hook, packet)?;
    if flow.is_original() {
        let key = flow.other_key(packet.key.protocol);
        let reply = lookup::entry(&key, packet).ok_or(Reason::Raced)?;
        reply.route = route::back(hook, packet, device, settings);
    }
    flow.arrival = mark;
    Ok(())
}

/// Asks again for a route that was found under another generation.
#[inline(always)]
fn refresh<H: Hook>(
    hook: &H,
    packet: &Packet,
    flow: &mut FlowEntry<V4>,
    settings: &Settings,
) -> Result<Way, Reason> {
    if !flow.is_original() {
        // The reply goes back by the way the request came; only the device may have changed.
        // SAFETY: nothing writes devices but userspace and a flag; a torn read is corrected by the next
        // generation.
        let device = unsafe { DEVICES.get(flow.route.egress) }.ok_or(Reason::UnknownDevice)?;
        flow.route.mtu = route::mtu(device, 0);
        flow.route.device = device.flags as u16;
        flow.route.generation = settings.generation;
        return Ok(Way::Frame);
    }
    let to = flow.rewrite.key(packet.key.protocol);
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::Raced)?;
    // SAFETY: this CPU's live map value, which nothing else uses until the program ends.
    let fib = unsafe { &mut (*scratch).fib };
    let Resolved { route, next_hop } = route::resolve(hook, packet, &to, settings, fib)?;
    flow.route = route;
    Ok(if route.generation != 0 {
        Way::Frame
    } else {
        Way::Neighbour(route.egress, next_hop)
    })
}
