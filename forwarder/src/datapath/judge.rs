//! Whether the rules in force would make a flow just as it is. The programs' look-up once more, over what was put
//! into their tables.

use std::{collections::BTreeMap, net::IpAddr};

use forwarder_common::{
    flow::{DELIVER, EMIT},
    network::Network,
    rule::{
        CLIENT_ALLOWED, CLIENTS_ALLOWED_UNLESS_LISTED, CLIENTS_ANY, LOCAL, OUTBOUND,
        OUTBOUND_SHADOW, RuleEntry, SCOPE_BITS, SHADOW, SOURCE_MASQUERADE, SOURCE_POOL, Shape,
        TO_LOCAL, UNFILTERED,
    },
};
use ipnet::IpNet;

use super::{
    Address, Flow, InForce, Key,
    compile::{ClientId, Contents, TCP, UDP},
    family::Family,
};

/// What a flow is judged by besides the rules.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// This host's addresses.
    pub own: &'a [Address],
    /// Indices of the configured devices.
    pub devices: &'a [u32],
    /// Indices of devices that are configured no more and still serve flows.
    pub leaving: &'a [u32],
}

impl Surroundings<'_> {
    /// Whether this host may masquerade as `address`. Not only where the flow leaves now: routes change, and what was
    /// right when it was made is no change of its rule.
    fn shows(&self, address: IpAddr) -> bool {
        let mut own = self.own.iter();
        own.any(|own| own.primary && own.address == address)
    }

    /// Whether `address` is this host's on a subnet that all of `hosts` are on.
    fn is_subnet_of(&self, address: IpAddr, hosts: [IpAddr; 2]) -> bool {
        let mut own = self.own.iter().filter(|own| own.address == address);
        own.any(|own| {
            IpNet::new(own.address, own.prefix)
                .is_ok_and(|subnet| hosts.iter().all(|host| subnet.contains(host)))
        })
    }

    /// Whether packets of `flow` come in by a device that is leaving. Of a flow to a port of this host nobody knows
    /// which device that is.
    pub(super) fn uses_leaving(&self, flow: &Flow) -> bool {
        let ways = [flow.original_entry.route, flow.reply_entry.route];
        flow.original_entry.is_forwarded()
            && ways
                .iter()
                .any(|way| self.leaving.contains(&way.egress.index()))
    }
}

impl InForce {
    /// Whether the rules would make `flow` just as it is.
    pub(super) fn makes(&self, flow: &Flow, around: &Surroundings<'_>) -> bool {
        match flow.original.source {
            IpAddr::V4(_) => self.v4.makes(flow, around),
            IpAddr::V6(_) => self.v6.makes(flow, around),
        }
    }

    /// Whether mappings of the rule in `slot` are open to everybody.
    pub(super) fn is_unfiltered(&self, slot: u32) -> bool {
        let scopes = [OUTBOUND | slot, OUTBOUND | OUTBOUND_SHADOW | slot];
        let open =
            |scope| self.v4.unfiltered(scope).is_some() || self.v6.unfiltered(scope).is_some();
        scopes.into_iter().any(open)
    }
}

impl<A: Family + Network> Contents<A> {
    fn makes(&self, flow: &Flow, around: &Surroundings<'_>) -> bool {
        let entry = &flow.original_entry;
        let here = [flow.reply_entry.route.egress.index()];
        let ingresses: &[u32] = match (entry.has(EMIT), entry.has(DELIVER)) {
            (true, _) => &[LOCAL],
            (false, true) => around.devices,
            (false, false) => &here,
        };
        ingresses.iter().any(|ingress| {
            let rule = self.rule(&flow.original, *ingress, entry.has(EMIT));
            rule.is_some_and(|rule| {
                rule.flags & SHADOW == 0
                    && self.admits(flow.original.source, rule)
                    && self.leads_there(flow, rule)
                    && shows(flow, rule, around)
            })
        })
    }

    /// The rule that a packet of `key` meets which comes in by `ingress`.
    fn rule(&self, key: &Key, ingress: u32, emitted: bool) -> Option<&RuleEntry<A>> {
        let forward = self.find(key, ingress, !emitted);
        if forward.is_some() || emitted {
            return forward;
        }
        let slot = [ingress, 0]
            .into_iter()
            .find_map(|interface| longest(&self.outbound, interface, key.source))?;
        let scope = OUTBOUND | slot;
        let unfiltered = || self.unfiltered(scope).filter(|_| key.protocol == UDP);
        // Strangers may have opened it, whatever their port.
        self.find(key, scope, false).or_else(unfiltered)
    }

    /// `any`: rules for any device, too.
    fn find(&self, key: &Key, interface: u32, any: bool) -> Option<&RuleEntry<A>> {
        let port = u32::from(u16::from_be(key.destination_port_be));
        self.shapes.iter().find_map(|shape: &Shape| {
            let interface = match shape.any_interface {
                0 => interface,
                _ if any => 0,
                _ => return None,
            };
            let address = (shape.any_address == 0).then_some(key.destination);
            let block = (port >> shape.shift) << shape.shift;
            let id = (address, interface, block as u16, shape.shift, key.protocol);
            self.listeners.get(&id)
        })
    }

    /// An entry of an outbound rule that lets strangers in.
    fn unfiltered(&self, scope: u32) -> Option<&RuleEntry<A>> {
        let first = (None, scope, 0, 0, 0);
        let entries = self.listeners.range(first..);
        entries
            .take_while(|((address, interface, ..), _)| address.is_none() && *interface == scope)
            .map(|(_, entry)| entry)
            .find(|entry| entry.flags & UNFILTERED != 0)
    }

    fn admits(&self, client: IpAddr, rule: &RuleEntry<A>) -> bool {
        rule.clients == CLIENTS_ANY
            || match longest(&self.clients, rule.rule, client) {
                Some(verdict) => verdict == CLIENT_ALLOWED,
                None => rule.clients == CLIENTS_ALLOWED_UNLESS_LISTED,
            }
    }

    /// Whether one of the rule's backends is the flow's.
    fn leads_there(&self, flow: &Flow, rule: &RuleEntry<A>) -> bool {
        let (from, to) = (&flow.original, &flow.original_entry.rewrite);
        let local = flow.original_entry.has(DELIVER);
        if local != (rule.flags & TO_LOCAL != 0) {
            return false;
        }
        if rule.backend_count == 0 {
            // An echo has an identifier in place of ports.
            let ports = from.destination_port_be == to.destination_port_be;
            return from.destination == to.destination
                && (ports || from.protocol != TCP && from.protocol != UDP);
        }
        let first = rule.backends.saturating_sub(self.start) as usize;
        let backends = self.backends.iter().skip(first);
        let port = u16::from_be(from.destination_port_be);
        backends.take(rule.backend_count.into()).any(|backend| {
            let address = if backend.address.is_unspecified() {
                local || to.destination == from.destination
            } else {
                to.destination == backend.address.ip()
            };
            let port = backend.port_for(port, rule.first_port);
            address && port.to_be() == to.destination_port_be
        })
    }
}

/// Whether the backend would see the flow come from where it sees it come from.
fn shows<A: Family>(flow: &Flow, rule: &RuleEntry<A>, around: &Surroundings<'_>) -> bool {
    let entry = &flow.original_entry;
    if !entry.is_forwarded() {
        return true;
    }
    let shown = entry.rewrite.source;
    match rule.source_mode {
        SOURCE_MASQUERADE => around.shows(shown),
        SOURCE_POOL => (rule.pool_first.ip()..=rule.pool_last.ip()).contains(&shown),
        // A client on the backend's own subnet is seen as this host (hairpin).
        _ => {
            let hairpin = [flow.original.source, entry.rewrite.destination];
            shown == flow.original.source || around.is_subnet_of(shown, hairpin)
        }
    }
}

/// The value of the longest prefix within `scope` that has `address`.
fn longest(prefixes: &BTreeMap<ClientId, u32>, scope: u32, address: IpAddr) -> Option<u32> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    (0..=most).rev().find_map(|length: u8| {
        let network = IpNet::new(address, length).ok()?.trunc().network();
        let id = (SCOPE_BITS + u32::from(length), scope, network);
        prefixes.get(&id).copied()
    })
}

#[cfg(test)]
mod tests;
