//! The source address and port that a new flow gets, and their reservation.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_get_prandom_u32, maps::lpm_trie::Key};
use forwarder_common::{
    address::{Address, V4, mix},
    flow::{FlowEntry, FlowKey, Rewrite},
    port::{ATTEMPTS, Ports},
    reason::Reason,
    rule::{MasqueradeKey, RuleEntry, SOURCE_MASQUERADE, SOURCE_POOL, full_prefix},
    settings::Settings,
};

use crate::{lookup::Table, maps::MASQUERADE, route::Resolved, tell};

/// The source address that the backend will see.
#[inline(always)]
pub fn source_address(client: V4, rule: &RuleEntry<V4>, way: &Resolved) -> Result<V4, Reason> {
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
        SOURCE_MASQUERADE => {
            let key = Key::new(
                full_prefix::<V4>(),
                MasqueradeKey {
                    interface: way.route.egress,
                    next_hop: way.next_hop,
                },
            );
            MASQUERADE.get(&key).copied().ok_or(Reason::NoSourceAddress)
        }
        _ => Ok(client),
    }
}

/// Finds a source port for `to` that no other flow uses towards the same backend, by inserting `reply`,
/// completed with the rewrite back to `from`, under the key that this port gives. `to` leaves with the
/// port that was reserved.
///
/// The client's own port is first. Under a translated address it must lie in the allowed range: outside
/// it the host's own connections live.
#[inline(always)]
pub fn reserve(
    from: &FlowKey<V4>,
    to: &mut FlowKey<V4>,
    reply: &mut FlowEntry<V4>,
    settings: &Settings,
) -> Result<(), Reason> {
    let ports = Ports::new(settings);
    let own = u16::from_be(from.source_port_be);
    if (to.source == from.source || ports.contains(own)) && take(from, to, reply)? {
        return Ok(());
    }
    // SAFETY: the helper takes no argument.
    let random = unsafe { bpf_get_prandom_u32() };
    for attempt in 0..ATTEMPTS {
        let Some(port) = ports.candidate(random, attempt) else {
            break;
        };
        to.source_port_be = port.to_be();
        if take(from, to, reply)? {
            return Ok(());
        }
    }
    tell::ports_exhausted(to);
    Err(Reason::PortsExhausted)
}

/// Tries the port that `to` has: false if another flow has it.
#[inline(always)]
fn take(from: &FlowKey<V4>, to: &FlowKey<V4>, reply: &mut FlowEntry<V4>) -> Result<bool, Reason> {
    let key = to.reversed();
    reply.rewrite = Rewrite::between(&key, &from.reversed());
    match Table::of(to.protocol).reserve(&key, reply) {
        Ok(()) => Ok(true),
        Err(Reason::Raced) => Ok(false),
        Err(reason) => Err(reason),
    }
}

/// `BPF_NOEXIST` as the map helpers take it.
pub const IF_ABSENT: u64 = BPF_NOEXIST as u64;
