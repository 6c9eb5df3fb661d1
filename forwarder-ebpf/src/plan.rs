//! How a packet of a known flow leaves: route, MTU, TTL.

use forwarder_common::{
    flow::{DELIVER, EMIT, FlowEntry, Route},
    parse::{Facts, Packet},
    reason::Reason,
    settings::Settings,
    stage::Exit,
};

use crate::{
    cache,
    hook::Hook,
    lookup,
    maps::{self, DEVICES, Family},
    route::{self, Resolved},
};

/// How a finished packet is sent.
#[derive(Clone, Copy)]
pub enum Way<A> {
    /// As a whole frame by the flow's route.
    Frame,
    /// Out of this device to this next hop, whose MAC the kernel must find first.
    Neighbour(u32, A),
    /// On the way it was going: up to this host's stack, or down from it.
    Stay,
}

/// Brings `flow`'s route up to date and checks that the packet may take it. Writes no byte of the packet.
#[inline(always)]
pub fn plan<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
) -> Result<Way<A>, Exit> {
    if !H::EGRESS {
        follow_arrival(hook, packet, flow, settings)?;
    }
    way(hook, packet, flow, settings)
}

/// As [`plan`] for a packet that says nothing about where its flow's packets come from.
#[inline(always)]
pub fn way<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
) -> Result<Way<A>, Exit> {
    if flow.has(DELIVER) || flow.has(EMIT) && flow.route.egress == 0 {
        return Ok(Way::Stay);
    }
    let mut way = Way::Frame;
    if flow.route.generation != settings.generation {
        way = refresh(hook, packet, flow, settings)?;
    }
    admit(hook, packet, &flow.route)?;
    Ok(way)
}

/// Checks that a packet may leave by `route`.
#[inline(always)]
pub fn admit<H: Hook>(hook: &H, packet: &Facts, route: &Route) -> Result<(), Exit> {
    if packet.hops <= 1 && !H::EGRESS {
        return Err(Exit::Answered(Reason::TtlExpired));
    }
    if !hook.can_send(route) {
        return Err(Exit::Refused(Reason::EgressWithoutXdp));
    }
    if hook.wire_length(packet.length, packet.headers) > u32::from(route.mtu) {
        if let Ok(scratch) = maps::scratch() {
            scratch.mtu = route.mtu;
        }
        return Err(Exit::Answered(Reason::TooBig));
    }
    Ok(())
}

/// Notices a packet that came another way than the one before it: meant for another host, or from a
/// client that has moved, whose replies must now go that way.
#[inline(always)]
fn follow_arrival<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
) -> Result<(), Reason> {
    let mark = packet.macs.arrival_mark(hook.ingress());
    if mark == flow.arrival {
        return Ok(());
    }
    let device = route::check_addressee(hook, packet)?;
    if flow.is_original() && flow.is_forwarded() {
        let key = flow.other_key(packet.key.protocol);
        let reply = lookup::entry(&key).ok_or(Reason::Raced)?;
        reply.route = route::back(hook, packet, device, settings);
        cache::forget_all();
    }
    flow.arrival = mark;
    Ok(())
}

/// Asks again for a route that was found under another generation.
#[inline(always)]
fn refresh<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
) -> Result<Way<A>, Reason> {
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
    let fib = &mut maps::scratch()?.fib;
    let to = &mut maps::entries::<A>()?.to;
    *to = flow.rewrite.key(packet.key.protocol);
    let Resolved { route, next_hop } =
        route::resolve(hook, packet.tos, &packet.key, to, settings, fib)?;
    flow.route = route;
    Ok(if route.generation != 0 {
        Way::Frame
    } else {
        Way::Neighbour(route.egress, next_hop)
    })
}
