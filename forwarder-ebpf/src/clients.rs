//! Which clients a rule serves.

use aya_ebpf::maps::lpm_trie::Key;
use forwarder_common::{
    address::V4,
    reason::Reason,
    rule::{
        CLIENT_ALLOWED, CLIENTS_ALLOWED_UNLESS_LISTED, CLIENTS_ANY, ClientKey, RuleEntry,
        full_prefix,
    },
};

use crate::maps::CLIENTS;

/// Checks `client` against the rule's prefixes: the longest that holds it decides.
#[inline(always)]
pub fn check(client: V4, rule: &RuleEntry<V4>) -> Result<(), Reason> {
    if rule.clients == CLIENTS_ANY {
        return Ok(());
    }
    let key = Key::new(
        full_prefix::<V4>(),
        ClientKey {
            rule: rule.rule,
            address: client,
        },
    );
    let allowed = match CLIENTS.get(&key) {
        Some(listed) => *listed == CLIENT_ALLOWED,
        None => rule.clients == CLIENTS_ALLOWED_UNLESS_LISTED,
    };
    if allowed {
        Ok(())
    } else {
        Err(Reason::ClientRefused)
    }
}
