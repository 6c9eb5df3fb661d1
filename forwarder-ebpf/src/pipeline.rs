//! parse → look up → plan → ── commit ── → rewrite → emit
//!
//! Everything that can fail stands before the commit line; before it no byte of the packet is written.
//! After it nothing fails.

use aya_ebpf::helpers::bpf_jiffies64;
use forwarder_common::{
    address::{V4, V6},
    concern::{self, End},
    flow::{FlowEntry, FlowKey},
    frame::Transport,
    network::{Header, Network},
    parse::{self, Link, Packet},
    reason::{Reason, Verdict},
    rewrite::{self, Hop},
    settings::{FAMILY_V4, FAMILY_V6, Settings},
    stage::{Exit, Stage},
};

use crate::{
    account, cache,
    hook::Hook,
    last, lookup,
    maps::{self, Family},
    plan::{self, Way},
};

/// Runs one packet through the main program, whichever family it is of. Returns the program's return value.
#[inline(always)]
pub fn run<H: Hook>(hook: &mut H) -> i32 {
    match enter(hook) {
        Ok(link) if link.ether_type == V4::ETHER_TYPE => family::<H, V4>(hook, &link),
        Ok(link) if link.ether_type == V6::ETHER_TYPE => family::<H, V6>(hook, &link),
        Ok(_) => refuse(hook, Reason::NotIp),
        Err(reason) => refuse(hook, reason),
    }
}

#[inline(always)]
fn family<H: Hook, A: Family>(hook: &mut H, link: &Link) -> i32 {
    let family = if A::IPV6 { FAMILY_V6 } else { FAMILY_V4 };
    let Ok(settings) = settings() else {
        return refuse(hook, Reason::NoRule);
    };
    if settings.families & family == 0 {
        return refuse(hook, Reason::NoRule);
    }
    if !H::EGRESS
        && let Some(packet) = parse::plain::<A, H>(hook, link)
    {
        if !concerns(&packet.key) {
            return refuse(hook, stray(&packet.key));
        }
        if H::FAST
            && let Some(value) = cache::run(hook, &packet, settings)
        {
            return value;
        }
    }
    let result = forward::<H, A>(hook, link, settings);
    settle::<H, A>(hook, result)
}

/// Runs one packet of family `A` through another stage. What that stage has told the main program holds for this
/// packet only, so it is taken back if the packet ends here.
#[inline(always)]
pub fn stage<H: Hook, A: Family>(
    hook: &mut H,
    run: impl FnOnce(&mut H, &Link) -> Result<i32, Exit>,
) -> i32 {
    match enter(hook) {
        Ok(link) => {
            let result = run(hook, &link);
            forget_unless_on(&result);
            settle::<H, A>(hook, result)
        }
        Err(reason) => refuse(hook, reason),
    }
}

/// As [`stage`] for one that looks at no byte of the packet.
#[inline(always)]
pub fn bare<H: Hook, A: Family>(hook: &H, run: impl FnOnce() -> Result<i32, Exit>) -> i32 {
    let result = run();
    forget_unless_on(&result);
    settle::<H, A>(hook, result)
}

#[inline(always)]
fn forget_unless_on(result: &Result<i32, Exit>) {
    if !matches!(result, Err(Exit::To(_)))
        && let Ok(scratch) = maps::scratch()
    {
        scratch.checked = false;
    }
}

#[inline(always)]
fn enter<H: Hook>(hook: &mut H) -> Result<Link, Reason> {
    let link = parse::link(hook)?;
    hook.arrive(link.tag)?;
    Ok(link)
}

/// False if no rule and no flow is about packets with these addresses.
#[inline(always)]
fn concerns<A: Family>(key: &FlowKey<A>) -> bool {
    is_set(End::Destination, key.destination) || is_set(End::Source, key.source)
}

#[inline(always)]
fn is_set<A: Family>(end: End, address: A) -> bool {
    let (word, bit) = concern::bit(end, address);
    match A::CONCERNS.get(word) {
        Some(word) => word & bit != 0,
        None => true,
    }
}

/// Why a packet that does not concern us is left to the kernel.
#[inline(always)]
fn stray<A: Family>(key: &FlowKey<A>) -> Reason {
    if key.destination.is_one_host() && key.source.is_one_host() {
        Reason::NoRule
    } else {
        Reason::NotUnicast
    }
}

/// Counts a packet that is not sent on, or goes on with it in another stage.
#[inline(always)]
fn settle<H: Hook, A: Family>(hook: &H, result: Result<i32, Exit>) -> i32 {
    match result {
        Ok(value) => value,
        Err(Exit::To(stage)) => {
            hook.jump(stage.index(A::IPV6));
            refuse(hook, Reason::StageMissing)
        }
        Err(Exit::Answered(reason)) if !H::EGRESS => {
            if let Ok(scratch) = maps::scratch() {
                scratch.reason = reason;
                account::refused(reason);
                last::remember(hook, reason);
                hook.jump(Stage::Answer.index(A::IPV6));
            }
            hook.refuse(Verdict::Drop)
        }
        Err(Exit::Refused(reason) | Exit::Answered(reason)) => refuse(hook, reason),
    }
}

#[inline(always)]
fn refuse<H: Hook>(hook: &H, reason: Reason) -> i32 {
    account::refused(reason);
    if reason.verdict() == Verdict::Drop {
        last::remember(hook, reason);
    }
    hook.refuse(reason.verdict())
}

/// The settings record.
#[inline(always)]
pub fn settings() -> Result<&'static Settings, Reason> {
    maps::SETTINGS.get(0).ok_or(Reason::NoRule)
}

/// Now, in jiffies.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper takes no argument and only reads a clock.
    unsafe { bpf_jiffies64() }
}

/// Parses the packet; a fragment only if it has come by [`Stage::Fragment`].
#[inline(always)]
fn packet<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<Packet<A>, Exit> {
    let mut header: Header<A> = parse::header(hook, link)?;
    if header.part.is_fragment() {
        let scratch = maps::scratch()?;
        if !core::mem::take(&mut scratch.checked) || scratch.fragment != header.part {
            return Err(Exit::To(Stage::Fragment));
        }
        hook.is_fragment(true);
        if header.part.offset != 0 {
            header.protocol = scratch.protocol;
            return Ok(parse::tail(hook, link, &header, scratch.ports)?);
        }
    }
    parse::packet(hook, link, &header)
}

#[inline(always)]
fn forward<H: Hook, A: Family>(
    hook: &mut H,
    link: &Link,
    settings: &Settings,
) -> Result<i32, Exit> {
    let packet = packet::<H, A>(hook, link)?;
    if packet.transport == Transport::Other {
        // Nothing to translate, but an outbound rule may have to refuse it.
        return Err(match settings.outbound {
            0 => Exit::Refused(Reason::NotTransport),
            _ => Exit::To(Stage::Open),
        });
    }
    let now = now();
    let flow = lookup::flow(hook, &packet)?;
    let way = plan::plan(hook, &packet, flow, settings)?;
    if flow.mss != 0 && packet.flags.synchronizes() {
        let scratch = maps::scratch()?;
        // Set by that stage, so that a packet comes by it once.
        if core::mem::take(&mut scratch.clamped) != packet.key.ports() {
            scratch.mtu = flow.route.mtu;
            scratch.mss = flow.mss;
            return Err(Exit::To(Stage::Clamp));
        }
    }
    if H::FAST && link.tag.is_none() && is_noted(&packet) {
        cache::note(hook, &packet, flow, settings, now);
    }
    Ok(commit(hook, &packet, flow, way, now))
}

/// Whether packets like this one go the short way once it has been noted.
#[inline(always)]
fn is_noted<A: Family>(packet: &Packet<A>) -> bool {
    matches!(packet.transport, Transport::Tcp | Transport::Udp) && !packet.flags.changes_state()
}

/// The commit line is this function's beginning.
#[inline(always)]
pub fn commit<H: Hook, A: Family>(
    hook: &mut H,
    packet: &Packet<A>,
    flow: &mut FlowEntry<A>,
    way: Way<A>,
    now: u64,
) -> i32 {
    rewrite::apply(hook, packet, &flow.rewrite, hop(flow, way));
    account::forwarded::<H, A>(packet, flow, now);
    emit(hook, flow, way)
}

/// How a packet of `flow` goes on by `way`.
#[inline(always)]
pub fn hop<A: Family>(flow: &FlowEntry<A>, way: Way<A>) -> Hop {
    match way {
        Way::Stay => Hop::Own,
        _ if flow.is_forwarded() => Hop::Next(flow.route.macs),
        _ => Hop::First(flow.route.macs),
    }
}

/// Sends the finished packet.
#[inline(always)]
pub fn emit<H: Hook, A: Family>(hook: &mut H, flow: &FlowEntry<A>, way: Way<A>) -> i32 {
    match way {
        Way::Stay => hook.stay(),
        Way::Frame => hook.send(&flow.route),
        Way::Neighbour(egress, next_hop) => hook.send_by_neighbour(egress, next_hop),
    }
}
