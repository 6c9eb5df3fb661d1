//! The rules that a kind of packets can meet: the fewer, the sooner they are asked.

use crate::config::PortRange;
use crate::migrate::ruleset::{Action, ChainId, Hook, Match, Nat, Rule, Table};

/// Rules of a table that are left, chain by chain.
#[derive(Clone, Debug)]
pub(super) struct Slice<'a> {
    chains: Vec<Vec<&'a Rule>>,
    roots: &'a [ChainId],
}

impl<'a> Slice<'a> {
    /// Everything that packets at `hook` can meet.
    pub fn new(table: &'a Table, hook: Hook) -> Self {
        let reachable = table.reachable(hook);
        let chains = table.chains.iter().enumerate();
        let chains = chains.map(|(id, chain)| match reachable.contains(&id) {
            true => chain.rules.iter().collect(),
            false => Vec::new(),
        });
        Self {
            chains: chains.collect(),
            roots: table.roots(hook),
        }
    }

    pub fn roots(&self) -> &'a [ChainId] {
        self.roots
    }

    pub fn rules(&self, chain: ChainId) -> impl Iterator<Item = &'a Rule> + use<'a, '_> {
        self.chains.get(chain).into_iter().flatten().copied()
    }

    pub fn all(&self) -> impl Iterator<Item = &'a Rule> + use<'a, '_> {
        self.chains.iter().flatten().copied()
    }

    /// Without the rules that cannot hold.
    pub fn filter(&self, possible: impl Fn(&Match) -> bool) -> Self {
        self.retain(|rule| rule.matches.iter().all(&possible))
    }

    /// With some of the rules.
    pub fn retain(&self, keep: impl Fn(&Rule) -> bool) -> Self {
        let chains = self.chains.iter();
        let left =
            |rules: &Vec<&'a Rule>| rules.iter().filter(|rule| keep(rule)).copied().collect();
        Self {
            chains: chains.map(left).collect(),
            roots: self.roots,
        }
    }

    /// Divides `ports` so that every rule takes all of a part or nothing, at `edges` as well, and calls `each` with the
    /// parts in their order, and the rules that are left for each.
    pub fn divide(&self, ports: PortRange, edges: &[u16], each: &mut dyn FnMut(&Self, PortRange)) {
        let edges = between(edges, ports);
        let inside = |edge: &u16| ports.first < *edge && *edge <= ports.last;
        let mut starts: Vec<u16> = self.all().flat_map(starts).filter(inside).collect();
        starts.extend(edges);
        starts.sort_unstable();
        starts.dedup();
        let Some(middle) = starts.get(starts.len() / 2) else {
            return each(self, ports);
        };
        for (first, last) in [(ports.first, middle - 1), (*middle, ports.last)] {
            let half = PortRange { first, last };
            self.within(half).divide(half, edges, each);
        }
    }

    /// Without the rules that are about other ports.
    pub fn within(&self, ports: PortRange) -> Self {
        self.filter(|condition| can_have(condition, ports))
    }
}

/// Those of the sorted `edges` that divide `ports`.
fn between(edges: &[u16], ports: PortRange) -> &[u16] {
    let from = edges.partition_point(|edge| *edge <= ports.first);
    let to = edges.partition_point(|edge| *edge <= ports.last);
    &edges[from..to]
}

/// Where a rule begins and where it ceases to hold.
fn starts(rule: &Rule) -> Vec<u16> {
    let mut ranges: Vec<PortRange> = Vec::new();
    for condition in &rule.matches {
        if let Match::Ports(ports) | Match::OriginalPorts(ports) = condition {
            ranges.extend(&ports.value);
        }
    }
    if let Action::Nat(Nat::Destination(to)) = &rule.action {
        ranges.extend(match (to.base, to.ports) {
            // Beyond its end it begins anew.
            (Some(base), Some(ports)) => {
                PortRange::new(base, base.saturating_add(ports.last - ports.first))
            }
            // A port that is one of several stays.
            (None, ports) => ports.filter(|ports| ports.len() > 1),
            _ => None,
        });
    }
    let starts = ranges
        .into_iter()
        .flat_map(|range| [Some(range.first), range.last.checked_add(1)]);
    starts.flatten().collect()
}

/// Whether any of `ports` fits.
fn can_have(condition: &Match, ports: PortRange) -> bool {
    match condition {
        Match::Ports(wanted) if !wanted.not => {
            let mut wanted = wanted.value.iter();
            wanted.any(|one| one.first <= ports.last && ports.first <= one.last)
        }
        _ => true,
    }
}

/// Whether all of `ports` fit or none does; after [`Slice::divide`] it is one of both.
pub(super) fn have(wanted: &[PortRange], ports: PortRange) -> bool {
    wanted.iter().any(|one| one.contains(ports.first))
}
