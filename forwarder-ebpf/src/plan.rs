//! How a packet of a known flow leaves: route, MTU, TTL.

use forwarder_common::{
    ethernet::Macs,
    flow::{DELIVER, EMIT, Egress, FlowEntry, Route, SHADOW},
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
    shadow,
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
    let mut way = if stays(flow) { Way::Stay } else { Way::Frame };
    let proof = proof(hook, packet, settings.generation);
    if flow.proof != proof {
        if flow.has(SHADOW) {
            if !H::EGRESS {
                route::check_addressee(hook, packet)?;
            }
            return Err(shadow::pass(packet, flow));
        }
        if !H::EGRESS {
            follow_arrival(hook, packet, flow)?;
        }
        if !stays(flow) {
            way = refresh(hook, packet, flow, settings)?;
        }
        flow.proof = match way {
            Way::Neighbour(..) => 0,
            Way::Frame | Way::Stay => proof,
        };
    }
    if !stays(flow) {
        admit(hook, packet, &flow.route)?;
    }
    Ok(way)
}

/// As [`plan`] for a packet that says nothing about where its flow's packets come from: what is known of the route is
/// not known of its way, so the route is asked for.
#[inline(always)]
pub fn way<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
) -> Result<Way<A>, Exit> {
    if flow.has(SHADOW) {
        return Err(Exit::Refused(Reason::Shadow));
    }
    if stays(flow) {
        return Ok(Way::Stay);
    }
    let way = refresh(hook, packet, flow, settings)?;
    if matches!(way, Way::Neighbour(..)) {
        flow.proof = 0;
    }
    admit(hook, packet, &flow.route)?;
    Ok(way)
}

/// Whether packets of `flow` go the way they were going: up to this host's stack, or down from it.
#[inline(always)]
fn stays<A: Family>(flow: &FlowEntry<A>) -> bool {
    flow.has(DELIVER) || flow.has(EMIT) && flow.route.egress.index() == 0
}

/// What [`FlowEntry::proof`] is while packets like this one find nothing changed; 0 under no generation.
#[inline(always)]
pub fn proof<H: Hook>(hook: &H, packet: &Facts, generation: u32) -> u32 {
    if generation == 0 {
        return 0;
    }
    // What this host itself sends comes by no way.
    let macs = if H::EGRESS {
        Macs::default()
    } else {
        packet.macs
    };
    macs.proof(hook.ingress(), generation)
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

/// Looks at a packet that may have come another way than the one before it: meant for another host, or from a
/// client that has moved, whose replies must now go that way.
#[inline(always)]
fn follow_arrival<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
) -> Result<(), Reason> {
    let device = route::check_addressee(hook, packet)?;
    if flow.is_original() && flow.is_forwarded() {
        let key = flow.other_key(packet.key.protocol);
        let reply = lookup::entry(&key).ok_or(Reason::Raced)?;
        let back = route::back(hook, packet, device);
        if !reply.route.leads_as(&back) {
            reply.route.renew(back);
            cache::forget_all();
        }
    }
    Ok(())
}

/// Asks again for a route that may have changed. Where the next hop's MAC address is not known, the next packet must
/// ask, too.
#[inline(always)]
fn refresh<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    settings: &Settings,
) -> Result<Way<A>, Reason> {
    if !flow.is_original() {
        // The reply goes back by the way the request came; only the device may have changed.
        let index = flow.route.egress.index();
        // SAFETY: nothing writes devices but userspace and a flag; a torn read is corrected by the next
        // generation.
        let device = unsafe { DEVICES.get(index) }.ok_or(Reason::UnknownDevice)?;
        flow.route.mtu = route::mtu(device, 0);
        flow.route.egress = Egress::new(index, device.flags);
        return Ok(Way::Frame);
    }
    let fib = &mut maps::scratch()?.fib;
    let to = &mut maps::entries::<A>()?.to;
    *to = flow.rewrite.key(packet.key.protocol);
    let Resolved {
        route,
        generation,
        next_hop,
    } = route::resolve(hook, packet.tos, &packet.key, to, settings, fib)?;
    flow.route.renew(route);
    Ok(match generation {
        0 => Way::Neighbour(route.egress.index(), next_hop),
        _ => Way::Frame,
    })
}
