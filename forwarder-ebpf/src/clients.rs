//! Which clients a rule serves.

use aya_ebpf::maps::lpm_trie::Key;
use forwarder_common::{
    reason::Reason,
    rule::{
        CLIENT_ALLOWED, CLIENTS_ALLOWED_UNLESS_LISTED, CLIENTS_ANY, ClientKey, OUTBOUND,
        OUTBOUND_SHADOW, OutboundKey, RuleEntry, SHADOW, full_prefix,
    },
};

use crate::maps::Family;

/// Checks `client` against the rule's prefixes: the longest that holds it decides.
#[inline(always)]
pub fn check<A: Family>(client: A, rule: &RuleEntry<A>) -> Result<(), Reason> {
    if rule.clients == CLIENTS_ANY {
        return Ok(());
    }
    let key = Key::new(
        full_prefix::<A>(),
        ClientKey {
            rule: rule.rule,
            address: client,
        },
    );
    let allowed = match A::CLIENTS.get(&key) {
        Some(listed) => *listed == CLIENT_ALLOWED,
        None => rule.clients == CLIENTS_ALLOWED_UNLESS_LISTED,
    };
    if allowed {
        Ok(())
    } else {
        Err(Reason::ClientRefused)
    }
}

/// The scope of the outbound rule whose client `client` is when it comes in by `ingress`, as
/// [`forwarder_common::rule::ListenerKey::interface`] has it.
#[inline(always)]
pub fn scope<A: Family>(client: A, ingress: u32) -> Option<u32> {
    for interface in [ingress, 0] {
        let key = Key::new(
            full_prefix::<A>(),
            OutboundKey {
                interface,
                address: client,
            },
        );
        if let Some(slot) = A::OUTBOUND.get(&key) {
            return Some(OUTBOUND | *slot);
        }
    }
    None
}

/// The slot of the rule that has this scope, and those of its [`RuleEntry::flags`] that the scope tells.
#[inline(always)]
pub const fn rule_of(scope: u32) -> (u32, u32) {
    let flags = if scope & OUTBOUND_SHADOW != 0 {
        SHADOW
    } else {
        0
    };
    (scope & !(OUTBOUND | OUTBOUND_SHADOW), flags)
}
