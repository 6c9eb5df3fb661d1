//! Packets from whom a client has not sent to, where its rule lets them in (RFC 4787 section 5).

use aya_ebpf::bindings::bpf_fib_lookup;
use forwarder_common::{
    entries::Entries,
    flow::{CREATED_UNIT, FlowEntry, FlowKey, REPLY},
    frame::Transport,
    mapping::{MappingKey, OUTSIDE},
    parse::{Facts, UDP},
    reason::Reason,
    rule::{ENDPOINT_INDEPENDENT, UNFILTERED},
    settings::Settings,
    stage::Exit,
};

use crate::{hook::Hook, maps::Family, pipeline, plan, route};

/// Prepares a flow for a packet that is sent to a port which stands for a client's socket, as if the client had
/// sent first: what is the way onward to others is here the way back.
#[inline(always)]
pub fn admit<H: Hook, A: Family>(
    hook: &H,
    packet: &Facts,
    settings: &Settings,
    entries: &mut Entries<A>,
    fib: &mut bpf_fib_lookup,
) -> Result<(), Exit> {
    if H::EGRESS || settings.outbound == 0 || packet.transport != Transport::Udp {
        return Err(Exit::Refused(Reason::NoRule));
    }
    let Entries {
        from,
        to,
        socket,
        original,
        reply,
        rule_flags,
        ..
    } = entries;
    *socket = MappingKey {
        address: from.destination,
        port_be: from.destination_port_be,
        protocol: UDP,
        side: OUTSIDE,
    };
    // SAFETY: a live map value; a torn read is of a mapping that is going.
    let mapping = unsafe { A::MAPPINGS.get(&*socket) }.ok_or(Reason::NoRule)?;
    if mapping.unfiltered == 0 {
        return Err(Exit::Refused(Reason::NoRule));
    }
    let device = route::check_opener(hook, packet)?;
    *to = FlowKey::new(
        from.source,
        mapping.address,
        from.source_port_be,
        mapping.port_be,
        UDP,
    );
    let way = route::resolve(hook, packet.tos, from, to, settings, fib)?;
    if way.generation == 0 {
        // The client has been silent for so long that its neighbour entry is gone.
        return Err(Exit::Refused(Reason::NoNeighbour));
    }
    plan::admit(hook, packet, &way.route)?;
    let now = pipeline::now();
    *rule_flags = ENDPOINT_INDEPENDENT | UNFILTERED;
    *original = FlowEntry {
        route: route::back(hook, packet, device),
        last_seen: now as u32,
        created: (now / CREATED_UNIT) as u32,
        rule: mapping.rule,
        ..FlowEntry::default()
    };
    *reply = FlowEntry {
        route: way.route,
        proof: plan::proof(hook, packet, way.generation),
        flags: REPLY,
        ..*original
    };
    // The client's tuples: before translation, and after it.
    let outside = from.reversed();
    *from = to.reversed();
    *to = outside;
    Ok(())
}
