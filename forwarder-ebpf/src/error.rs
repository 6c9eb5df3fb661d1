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
    maps::{self, Family},
    pipeline,
    plan::{self, Way},
    route,
    rules::{self, Scope},
};

/// Translates an ICMP error, and the packet in it, and sends it to whom it concerns.
#[inline(always)]
pub fn run<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let header: Header<A> = parse::header(hook, link)?;
    let (packet, inner) = icmp::parse(hook, link, &header)?;
    let settings = pipeline::settings()?;
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
    let ingress = hook.ingress();
    let Ok(entries) = maps::entries::<A>() else {
        return Reason::Raced;
    };
    let scope = Scope::Device(ingress);
    let ours = rules::find(&packet.key, scope, settings, &mut entries.listener).is_some()
        || settings.outbound != 0
            && A::OWN.get_ptr(packet.key.destination).is_none()
            && clients::scope(reporter, ingress).is_some();
    if ours {
        Reason::IcmpNoFlow
    } else {
        Reason::NoRule
    }
}
