//! parse → look up → plan → ── commit ── → rewrite → emit
//!
//! Everything that can fail stands before the commit line; before it no byte of the packet is written.
//! After it nothing fails.

use aya_ebpf::helpers::bpf_jiffies64;
use forwarder_common::{
    event::ESTABLISHED,
    flow::FlowEntry,
    frame::Transport,
    network::Header,
    parse::{self, Link, Packet},
    reason::{Reason, Verdict},
    rewrite::{self, Hop},
    stage::{Exit, Stage},
    tcp::Seen,
};

use crate::{
    account, cache, event,
    hook::Hook,
    last, lookup,
    maps::{self, Family, SETTINGS},
    plan::{self, Way},
};

/// Runs one packet of family `A`, which [`crate::front`] has no short way for, through the main program.
#[inline(always)]
pub fn main<H: Hook, A: Family>(hook: &mut H, link: &Link) -> i32 {
    let result = forward::<H, A>(hook, link);
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

/// What every program begins with.
#[inline(always)]
pub fn enter<H: Hook>(hook: &mut H) -> Result<Link, Reason> {
    let link = parse::link(hook)?;
    hook.arrive(link.tag)?;
    Ok(link)
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

/// Counts a packet that is not sent on.
#[inline(always)]
pub fn refuse<H: Hook>(hook: &H, reason: Reason) -> i32 {
    account::refused(reason);
    if reason.verdict() == Verdict::Drop {
        last::remember(hook, reason);
    }
    hook.refuse(reason.verdict())
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

/// Sends a packet of a known flow on its way.
#[inline(always)]
fn forward<H: Hook, A: Family>(hook: &mut H, link: &Link) -> Result<i32, Exit> {
    let packet = packet::<H, A>(hook, link)?;
    let settings = SETTINGS.get();
    if packet.transport == Transport::Other {
        // Nothing to translate, but an outbound rule may have to refuse it.
        return Err(match settings.outbound {
            0 => Exit::Refused(Reason::NotTransport),
            _ => Exit::To(Stage::Open),
        });
    }
    let now = now();
    let stamp = cache::stamp(settings);
    let flow = lookup::flow(hook, &packet)?;
    let way = plan::plan(hook, &packet, flow, settings)?;
    if flow.route.mss != 0 && packet.flags.synchronizes() {
        let scratch = maps::scratch()?;
        // Set by that stage, so that a packet comes by it once.
        if core::mem::take(&mut scratch.clamped) != packet.key.ports() {
            scratch.mtu = flow.route.mtu;
            scratch.mss = flow.route.mss;
            return Err(Exit::To(Stage::Clamp));
        }
    }
    // Not with its first packet: many a flow has no second one, and a flood of such flows nothing else.
    if H::FAST && link.tag.is_none() && flow.packets_low != 0 && is_noted(&packet) {
        cache::note(hook, &packet, flow, stamp, now);
    }
    // TCP's handshake is told of by `lookup`.
    if packet.key.protocol != parse::TCP
        && !flow.is_original()
        && !flow.seen.has(Seen::CONFIRMED)
        && event::is_wanted(ESTABLISHED)
    {
        event::tell_of_reply(ESTABLISHED, &packet.key, flow);
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
    hook.commit(flow.rule, flow.is_original());
    let change = flow.rewrite.change(&packet.key);
    rewrite::apply(hook, packet, &flow.rewrite, change, hop(flow, way));
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
