//! The source address that a new flow gets.

use aya_ebpf::maps::lpm_trie::Key;
use forwarder_common::{
    address::mix,
    flow::FlowKey,
    reason::Reason,
    rule::{
        MasqueradeKey, OwnAddress, RuleEntry, SOURCE_MASQUERADE, SOURCE_POOL, SOURCE_PRESERVE,
        full_prefix,
    },
};

use crate::{hook::Hook, maps::Family, route::Resolved};

/// The source address that the backend will see.
#[inline(always)]
pub fn source_address<H: Hook, A: Family>(
    hook: &H,
    to: &FlowKey<A>,
    rule: &RuleEntry<A>,
    way: &Resolved<A>,
) -> Result<A, Reason> {
    let client = to.source;
    match rule.source_mode {
        SOURCE_POOL => {
            // By client, so that one client is one address to the backend (RFC 4787 REQ-2).
            let size = rule.pool_first.span(rule.pool_last);
            let index = if size > 1 {
                mix(client.digest()) % size
            } else {
                0
            };
            Ok(rule.pool_first.offset(index))
        }
        SOURCE_PRESERVE if H::EGRESS || !shares_subnet(hook, to, way) => Ok(client),
        SOURCE_PRESERVE | SOURCE_MASQUERADE => own(way.route.egress.index(), way.next_hop)
            .map(|own| own.address)
            .ok_or(Reason::NoSourceAddress),
        _ => Ok(client),
    }
}

/// The own address that this host shows on `interface` to `neighbour`.
#[inline(always)]
pub fn own<A: Family>(interface: u32, neighbour: A) -> Option<&'static OwnAddress<A>> {
    let key = Key::new(
        full_prefix::<A>(),
        MasqueradeKey {
            interface,
            next_hop: neighbour,
        },
    );
    A::MASQUERADE.get(&key)
}

/// Whether client and backend share a subnet, so that the backend would answer past this host (hairpin).
#[inline(always)]
fn shares_subnet<H: Hook, A: Family>(hook: &H, to: &FlowKey<A>, way: &Resolved<A>) -> bool {
    if way.route.egress.index() != hook.ingress() {
        return false;
    }
    let (Some(client), Some(backend)) = (
        own(way.route.egress.index(), to.source),
        own(way.route.egress.index(), to.destination),
    ) else {
        return false;
    };
    client.on_link != 0 && backend.on_link != 0 && client.address == backend.address
}
