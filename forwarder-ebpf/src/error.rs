//! ICMP errors about packets of flows.

use forwarder_common::{
    icmp,
    network::Header,
    parse::{self, Link, Packet},
    reason::Reason,
    rewrite,
    settings::Settings,
    stage::Exit,
};

use crate::{
    account, clients,
    hook::Hook,
    lookup,
    maps::{self, Family, SETTINGS},
    pipeline,
    plan::{self, Way},
    route,
    rules::{self, Scope},
    shadow,
};

/// Translates an ICMP error, and the packet in it, and sends it to whom it concerns.
#[inline(always)]
pub fn run<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let header: Header<A> = parse::header(hook, link)?;
    let settings = SETTINGS.get();
    let (packet, inner) = match icmp::parse(hook, link, &header) {
        // About none of ours, but an outbound rule may have to refuse it.
        Err(Reason::NoRule) if leaves(hook, &header, settings) => {
            return Err(Exit::Refused(Reason::IcmpNoFlow));
        }
        parsed => parsed?,
    };
    let Some(flow) = lookup::entry(&packet.key) else {
        return Err(Exit::Refused(unknown(
            hook,
            &packet,
            inner.outer_source,
            settings,
        )));
    };
    lookup::check::<H, A>(flow)?;
    if !H::EGRESS {
        route::check_addressee(hook, &packet)?;
    }
    let way = match plan::way(hook, &packet, flow, settings) {
        Ok(way) => way,
        // RFC 1122 section 3.2.2: no errors about errors.
        Err(Exit::Answered(reason)) => return Err(Exit::Refused(reason)),
        Err(exit) => return Err(exit),
    };

    // ── commit ──

    hook.commit(flow.rule, flow.is_original());
    rewrite::apply_error(
        hook,
        &packet,
        &inner,
        &flow.rewrite,
        pipeline::hop(flow, way),
    );
    account::carried::<H, A>(&packet, flow);
    Ok(match way {
        Way::Stay => hook.stay(),
        _ => pipeline::emit(hook, flow, way),
    })
}

/// What becomes of an error about a packet of no flow: if a rule would have made one, nobody else can have
/// sent the packet.
#[inline(always)]
fn unknown<H: Hook, A: Family>(
    hook: &H,
    packet: &Packet<A>,
    reporter: A,
    settings: &Settings,
) -> Reason {
    if H::EGRESS {
        return Reason::NoRule;
    }
    let Ok(entries) = maps::entries::<A>() else {
        return Reason::Raced;
    };
    let scope = Scope::Device(hook.ingress());
    let ours = rules::find(&packet.key, scope, settings, &mut entries.listener)
        .is_some_and(|rule| !shadow::is_on(hook, rule.flags))
        || outbound(hook, reporter, packet.key.destination, settings);
    if ours {
        Reason::IcmpNoFlow
    } else {
        Reason::NoRule
    }
}

/// Whether this error is one that a client of an outbound rule sends to somebody else.
#[inline(always)]
fn leaves<H: Hook, A: Family>(hook: &H, header: &Header<A>, settings: &Settings) -> bool {
    !H::EGRESS && outbound(hook, header.source, header.destination, settings)
}

#[inline(always)]
fn outbound<H: Hook, A: Family>(hook: &H, client: A, to: A, settings: &Settings) -> bool {
    settings.outbound != 0
        && A::OWN.get_ptr(to).is_none()
        && clients::scope(client, hook.ingress())
            .is_some_and(|scope| !shadow::is_on(hook, clients::rule_of(scope).1))
}
