//! A new flow: rule, client check, backend, route, source, then both directions or neither.

use forwarder_common::{
    address::V4,
    flow::{CREATED_UNIT, DIRECTION_ORIGINAL, DIRECTION_REPLY, FlowEntry, FlowKey, Rewrite},
    frame::Transport,
    parse::Packet,
    reason::Reason,
    settings::Settings,
};

use crate::{
    account, clients,
    hook::Hook,
    lookup::Table,
    maps::{SCRATCH, Scratch},
    plan, ports, route, rules,
};

/// Opens a flow for `packet` if a rule wants it, and returns the original direction's entry.
#[inline(always)]
pub fn open<H: Hook>(
    hook: &H,
    packet: &Packet,
    settings: &Settings,
    now: u64,
) -> Result<&'static mut FlowEntry<V4>, Reason> {
    let key = &packet.key;
    let rule = rules::find(key, hook.ingress(), settings).ok_or(Reason::NoRule)?;
    let device = route::check_addressee(hook, packet)?;
    clients::check(key.source, rule)?;
    if packet.transport == Transport::Tcp && !packet.flags.opens() {
        return Err(Reason::TcpNoFlow);
    }
    let mut to = rules::target(key, rule).ok_or(Reason::NoRule)?;
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::Raced)?;
    // SAFETY: this CPU's live map value, which nothing else uses until the program ends.
    let Scratch {
        original,
        reply,
        fib,
        ..
    } = unsafe { &mut *scratch };
    let way = route::resolve(hook, packet, &to, settings, fib)?;
    // Before the flow is made: a packet that ends here opens nothing.
    plan::admit(hook, packet, &way.route)?;
    to.source = ports::source_address(key.source, rule, &way)?;

    *reply = FlowEntry {
        route: route::back(hook, packet, device, settings),
        last_seen: now as u32,
        created: (now / CREATED_UNIT) as u32,
        rule: rule.rule,
        direction: DIRECTION_REPLY,
        ..FlowEntry::default()
    };
    ports::reserve(key, &mut to, reply, settings)?;

    *original = FlowEntry {
        rewrite: Rewrite::between(key, &to),
        route: way.route,
        arrival: packet.macs.arrival_mark(hook.ingress()),
        last_seen: now as u32,
        created: reply.created,
        rule: rule.rule,
        direction: DIRECTION_ORIGINAL,
        ..FlowEntry::default()
    };
    finish(key, &to, original)
}

/// Inserts the original direction behind the reply direction that [`ports::reserve`] has inserted, and
/// takes that one back where this fails.
#[inline(always)]
fn finish(
    key: &FlowKey<V4>,
    to: &FlowKey<V4>,
    original: &FlowEntry<V4>,
) -> Result<&'static mut FlowEntry<V4>, Reason> {
    let table = Table::of(key.protocol);
    if let Err(reason) = table.reserve(key, original) {
        table.remove(&to.reversed());
        // Another CPU has opened the same flow at the same moment: the packet goes by that one.
        return match table.get(key) {
            Some(winner) if reason == Reason::Raced => Ok(winner),
            _ => Err(reason),
        };
    }
    account::opened(original.rule);
    table.get(key).ok_or(Reason::Raced)
}
