//! Rules and devices that only watch: packets are counted as what they would have become, and go to the kernel
//! untouched.

use forwarder_common::{
    device,
    flow::FlowEntry,
    parse::Packet,
    reason::{Reason, Verdict},
    rule,
    stage::Exit,
    stats::{SHADOW_TRANSLATED, ShadowKey, ShadowTraffic},
};

use crate::{
    account,
    hook::Hook,
    maps::{DEVICES, Family, SHADOW},
    pipeline,
};

/// Whether a rule with these [`rule::RuleEntry::flags`] only watches what is met here.
#[inline(always)]
pub fn is_on<H: Hook>(hook: &H, rule_flags: u32) -> bool {
    if H::EGRESS {
        return false;
    }
    // SAFETY: nothing writes devices but userspace and a flag.
    let device = unsafe { DEVICES.get(hook.ingress()) };
    rule_flags & rule::SHADOW != 0
        || device.is_some_and(|device| device.flags & device::SHADOW != 0)
}

/// Counts a packet of a watched flow as what it would have become.
#[inline(always)]
pub fn pass<A: Family>(packet: &Packet<A>, flow: &mut FlowEntry<A>) -> Exit {
    account::met(packet, flow, pipeline::now());
    let original = flow.is_original();
    count(flow.rule, SHADOW_TRANSLATED, |seen| {
        let [from, back] = &mut seen.by_direction;
        let traffic = if original { from } else { back };
        traffic.packets += 1;
        traffic.bytes += u64::from(packet.length);
    });
    Exit::Refused(Reason::Shadow)
}

/// Counts a flow that `rule` would have opened.
#[inline(always)]
pub fn opened(rule: u32) {
    count(rule, SHADOW_TRANSLATED, |seen| seen.opened += 1);
}

/// What becomes of a packet of `length` bytes that `rule` would have let end by `exit`. The slow path has its say
/// where the fast path cannot tell.
#[inline(always)]
pub fn instead(exit: Exit, rule: u32, length: u32, fast: bool) -> Exit {
    let reason = match exit {
        Exit::To(_) => return exit,
        Exit::Refused(reason) | Exit::Answered(reason) => reason,
    };
    match reason.verdict() {
        Verdict::Pass => return exit,
        Verdict::SlowPath if fast => return exit,
        _ => {}
    }
    count(rule, reason as u32, |seen| {
        let [from, _] = &mut seen.by_direction;
        from.packets += 1;
        from.bytes += u64::from(length);
    });
    Exit::Refused(Reason::Shadow)
}

#[inline(always)]
fn count(rule: u32, outcome: u32, add: impl FnOnce(&mut ShadowTraffic)) {
    let key = ShadowKey { rule, outcome };
    let seen = match SHADOW.get_ptr_mut(key) {
        Some(seen) => seen,
        None => {
            // Full, or another CPU was first: the next look tells.
            let _there = SHADOW.insert(key, ShadowTraffic::default(), crate::reserve::IF_ABSENT);
            let Some(seen) = SHADOW.get_ptr_mut(key) else {
                return;
            };
            seen
        }
    };
    // SAFETY: `get_ptr_mut` returned this CPU's live map value.
    add(unsafe { &mut *seen });
}
