//! What every packet meets first: the filter of addresses, and on XDP the flow cache. On XDP it is a program of its own,
//! so that nothing the rarer packets need is in the way of those that end here.

use forwarder_common::{
    address::{V4, V6},
    concern::{self, End},
    flow::FlowKey,
    network::Network as _,
    parse::{self, Link},
    reason::Reason,
    settings::{FAMILY_V4, FAMILY_V6},
    stage::Stage,
};

use crate::{
    cache,
    hook::Hook,
    maps::{Family, SETTINGS},
    pipeline,
};

/// Runs one packet through everything, whichever family it is of. Returns the program's return value.
#[inline(always)]
pub fn run<H: Hook>(hook: &mut H) -> i32 {
    match pipeline::enter(hook) {
        Ok(link) if link.ether_type == V4::ETHER_TYPE => family::<H, V4>(hook, &link),
        Ok(link) if link.ether_type == V6::ETHER_TYPE => family::<H, V6>(hook, &link),
        Ok(_) => pipeline::refuse(hook, Reason::NotIp),
        Err(reason) => pipeline::refuse(hook, reason),
    }
}

#[inline(always)]
fn family<H: Hook, A: Family>(hook: &mut H, link: &Link) -> i32 {
    let family = if A::IPV6 { FAMILY_V6 } else { FAMILY_V4 };
    let settings = SETTINGS.get();
    if settings.families & family == 0 {
        return pipeline::refuse(hook, Reason::NoRule);
    }
    if !H::EGRESS
        && let Some(packet) = parse::plain::<A, H>(hook, link)
    {
        if !concerns(&packet.key) {
            return pipeline::refuse(hook, stray(&packet.key));
        }
        if H::FAST
            && let Some(value) = cache::run(hook, &packet, settings)
        {
            return value;
        }
    }
    if !H::FAST {
        return pipeline::main::<H, A>(hook, link);
    }
    hook.jump(Stage::Main.index(A::IPV6));
    pipeline::refuse(hook, Reason::StageMissing)
}

/// False if no rule and no flow is about packets with these addresses.
#[inline(always)]
fn concerns<A: Family>(key: &FlowKey<A>) -> bool {
    is_set(End::Destination, key.destination) || is_set(End::Source, key.source)
}

#[inline(always)]
fn is_set<A: Family>(end: End, address: A) -> bool {
    let (word, bit) = concern::bit(end, address);
    let words: *const u64 = A::CONCERNS.pointer().cast();
    // SAFETY: `concern::bit` numbers no word beyond the last; the verifier makes sure.
    let word = unsafe { words.add(word as usize) };
    // SAFETY: as above.
    let word = unsafe { word.read() };
    word & bit != 0
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
