//! A new flow: rule, client check, backend, route, source address. What is found goes to [`Entries`], from
//! which [`crate::reserve`] makes the flow.

use aya_ebpf::bindings::bpf_fib_lookup;
use forwarder_common::{
    entries::Entries,
    flow::{CREATED_UNIT, DELIVER, EMIT, FlowEntry, REPLY, Route, SHADOW},
    frame::Transport,
    network::Header,
    parse::{self, Facts, Link, Packet},
    reason::Reason,
    rule::{ENDPOINT_INDEPENDENT, LOCAL, RESET_UNKNOWN, RuleEntry, TO_LOCAL, UNFILTERED},
    settings::Settings,
    stage::{Exit, Stage},
};

use crate::{
    clients,
    hook::Hook,
    maps::{self, Family, SETTINGS},
    pipeline, plan, query,
    route::{self, Resolved},
    rules::{self, Scope},
    shadow, source, stranger,
};

/// Prepares a flow for a packet that has none, if a rule wants it.
#[inline(always)]
pub fn run<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let header: Header<A> = parse::header(hook, link)?;
    let scratch = maps::scratch()?;
    let packet: Packet<A> = if header.part.offset == 0 {
        parse::packet(hook, link, &header)?
    } else {
        parse::tail(hook, link, &header, scratch.ports)?
    };
    scratch.fragment = header.part;
    scratch.checked = header.part.is_fragment();
    // Read back, because what the verifier knows of it would double the cost of all that follows.
    // SAFETY: a reference to a live map value.
    hook.is_fragment(unsafe { (&raw const scratch.checked).read_volatile() });
    // From here on the packet's facts are read from a map, so that to the verifier all kinds of packets are
    // alike.
    scratch.facts = packet.facts;
    let entries = maps::entries::<A>()?;
    entries.from = packet.key;
    entries.shadow = 0;
    if let Some(exit) = query::claim(hook, &scratch.facts, &entries.from) {
        return Err(exit);
    }
    let settings = SETTINGS.get();
    let (facts, fib) = (&scratch.facts, &mut scratch.fib);
    let opened = match admitting_rule(hook, facts, settings, entries) {
        Ok(rule) => prepare(hook, facts, rule, settings, entries, fib),
        Err(Exit::Refused(Reason::NoRule)) => stranger::admit(hook, facts, settings, entries, fib),
        Err(exit) => Err(exit),
    };
    Err(match opened {
        Ok(()) => Exit::To(Stage::Reserve),
        Err(exit) if !H::EGRESS && entries.shadow != 0 => {
            shadow::instead(exit, entries.original.rule, facts.length, H::FAST)
        }
        Err(exit) => exit,
    })
}

/// Notes the rule that the packet has met, and whether it only watches.
#[inline(always)]
fn meet<H: Hook, A: Family>(hook: &H, rule: u32, flags: u32, entries: &mut Entries<A>) {
    entries.original.rule = rule;
    entries.shadow = u32::from(shadow::is_on(hook, flags));
}

/// The rule that the packet meets, if it lets a packet of this kind open a flow.
#[inline(always)]
fn admitting_rule<H: Hook, A: Family>(
    hook: &H,
    packet: &Facts,
    settings: &Settings,
    entries: &mut Entries<A>,
) -> Result<&'static RuleEntry<A>, Exit> {
    if packet.transport == Transport::Tail {
        // Only a first fragment can open a flow; where that was refused its datagram's others are, too.
        return Err(match outbound(hook, packet, settings, entries) {
            Ok(_) => Exit::Refused(Reason::NoRule),
            Err(reason) => Exit::Refused(reason),
        });
    }
    let scope = if H::EGRESS {
        Scope::Only(LOCAL)
    } else {
        Scope::Device(hook.ingress())
    };
    let rule = match rules::find(&entries.from, scope, settings, &mut entries.listener) {
        Some(rule) if H::EGRESS => rule,
        Some(rule) => {
            meet(hook, rule.rule, rule.flags, entries);
            route::check_opener(hook, packet)?;
            clients::check(entries.from.source, rule)?;
            rule
        }
        None => outbound(hook, packet, settings, entries)?,
    };
    if packet.transport == Transport::Tcp && !packet.flags.opens() {
        return Err(if H::EGRESS {
            Exit::Refused(Reason::NoRule)
        } else if rule.flags & RESET_UNKNOWN != 0 {
            Exit::Answered(Reason::TcpNoFlow)
        } else {
            Exit::Refused(Reason::TcpNoFlow)
        });
    }
    Ok(rule)
}

/// The outbound rule that the packet meets as one of its clients.
#[inline(always)]
fn outbound<H: Hook, A: Family>(
    hook: &H,
    packet: &Facts,
    settings: &Settings,
    entries: &mut Entries<A>,
) -> Result<&'static RuleEntry<A>, Reason> {
    let nobodys = match packet.transport {
        Transport::Other => Reason::NotTransport,
        _ => Reason::NoRule,
    };
    let from = &entries.from;
    if H::EGRESS || settings.outbound == 0 || A::OWN.get_ptr(from.destination).is_some() {
        return Err(nobodys);
    }
    let scope = clients::scope(from.source, hook.ingress()).ok_or(nobodys)?;
    let (rule, flags) = clients::rule_of(scope);
    meet(hook, rule, flags, entries);
    let from = &entries.from;
    route::check_opener(hook, packet)?;
    match packet.transport {
        Transport::Tcp | Transport::Udp | Transport::Echo => {
            rules::find(from, Scope::Only(scope), settings, &mut entries.listener)
                .ok_or(Reason::NotPermitted)
        }
        _ => Err(Reason::NotPermitted),
    }
}

#[inline(always)]
fn prepare<H: Hook, A: Family>(
    hook: &H,
    packet: &Facts,
    rule: &RuleEntry<A>,
    settings: &Settings,
    entries: &mut Entries<A>,
    fib: &mut bpf_fib_lookup,
) -> Result<(), Exit> {
    let Entries {
        from,
        to,
        original,
        reply,
        rule_flags,
        shadow,
        ..
    } = entries;
    let shadow = !H::EGRESS && *shadow != 0;
    *to = rules::target(from, rule).ok_or(Reason::NoRule)?;
    let local = rule.flags & TO_LOCAL != 0;
    original.route = Route::default();
    reply.route = Route::default();
    let mut generation = settings.generation;
    if local && let Some(own) = source::own(hook.ingress(), from.source) {
        // As netfilter's REDIRECT: the address that this host would answer the client from by itself, so
        // that a socket bound to no address answers from where it was asked.
        to.destination = own.address;
    }
    if !local && !(H::EGRESS && to.destination == from.destination) {
        let way: Resolved<A> = route::resolve(hook, packet.tos, from, to, settings, fib)?;
        // Before the flow is made: a packet that ends here opens nothing.
        plan::admit(hook, packet, &way.route)?;
        to.source = source::source_address(hook, to, rule, &way)?;
        original.route = way.route;
        generation = way.generation;
    }
    if !H::EGRESS && !local {
        let device = route::check_addressee(hook, packet)?;
        reply.route = route::back(hook, packet, device);
    }
    let now = pipeline::now();
    let (onward, back) = match (H::EGRESS, local) {
        (true, _) => (EMIT, DELIVER),
        (false, true) => (DELIVER, EMIT),
        (false, false) => (0, 0),
    };
    *rule_flags = rule.flags;
    let mut flags = onward;
    if shadow {
        // Nobody may be let in by a port that the kernel does not know of.
        *rule_flags &= !(ENDPOINT_INDEPENDENT | UNFILTERED);
        flags |= SHADOW;
        generation = 0;
    }
    original.route.mss = rule.mss;
    reply.route.mss = rule.mss;
    *original = FlowEntry {
        route: original.route,
        proof: plan::proof(hook, packet, generation),
        last_seen: now as u32,
        created: (now / CREATED_UNIT) as u32,
        rule: rule.rule,
        flags,
        ..FlowEntry::default()
    };
    *reply = FlowEntry {
        route: reply.route,
        proof: 0,
        flags: REPLY | back | flags & SHADOW,
        ..*original
    };
    Ok(())
}
