//! Which ports of an address rules treat otherwise than those of any address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::PortRange;
use crate::migrate::ruleset::{Match, Rule};

use super::arrival::few;
use super::slice::Slice;

/// Ports by the addresses that rules name.
#[derive(Debug, Default)]
pub(super) struct Concerns {
    pub by_address: BTreeMap<IpAddr, Vec<PortRange>>,
    /// Of prefixes that are too large to be listed.
    by_prefix: Vec<(IpNet, Vec<PortRange>)>,
    /// Of rules that tell this host's own addresses from others.
    pub by_local: Vec<PortRange>,
}

impl Concerns {
    pub fn of(arrivals: &Slice, departures: &Slice) -> Self {
        let mut concerns = Self::default();
        for rule in arrivals.all() {
            let ports = ports(rule);
            for condition in &rule.matches {
                match condition {
                    Match::Destination(list) | Match::OriginalDestination(list) => {
                        concerns.add(&list.value, &ports);
                    }
                    Match::Local(_) => concerns.by_local.extend(&ports),
                    _ => {}
                }
            }
        }
        for condition in departures.all().flat_map(|rule| &rule.matches) {
            if let Match::OriginalDestination(list) = condition {
                concerns.add(&list.value, &[PortRange::ALL]);
            }
        }
        concerns
    }

    fn add(&mut self, prefixes: &[IpNet], ports: &[PortRange]) {
        for prefix in prefixes {
            match few(*prefix) {
                Some(addresses) => {
                    for address in addresses {
                        self.by_address.entry(address).or_default().extend(ports);
                    }
                }
                None if prefix.prefix_len() > 0 => self.by_prefix.push((*prefix, ports.to_vec())),
                None => {}
            }
        }
    }

    /// The ports of `address`, in their order and each once.
    pub fn ports(&self, address: IpAddr) -> Vec<PortRange> {
        let mut all = self.by_address.get(&address).cloned().unwrap_or_default();
        let holding = self
            .by_prefix
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        all.extend(holding.flat_map(|(_, ports)| ports));
        all.extend(&self.by_local);
        all.sort_by_key(|ports| ports.first);
        let mut apart: Vec<PortRange> = Vec::new();
        for ports in all {
            match apart.last_mut() {
                Some(last) if ports.first <= last.last => last.last = last.last.max(ports.last),
                _ => apart.push(ports),
            }
        }
        apart
    }
}

/// The ports that a rule may be about.
fn ports(rule: &Rule) -> Vec<PortRange> {
    let lists = rule.matches.iter().filter_map(|one| match one {
        Match::Ports(list) if !list.not => Some(&list.value),
        _ => None,
    });
    lists
        .min_by_key(|list| list.len())
        .cloned()
        .unwrap_or_else(|| vec![PortRange::ALL])
}
