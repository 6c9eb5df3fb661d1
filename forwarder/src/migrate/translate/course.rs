//! What is asked about a kind of packets, and what comes of it.

use std::cell::Cell;

use ipnet::IpNet;

use crate::migrate::clients::ClientSet;
use crate::migrate::journal::OriginId;
use crate::migrate::ruleset::{Match, Nat, Rule};

/// What a condition says about a kind of packets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Holds {
    Yes,
    No,
    /// As far as one can tell, for this reason.
    Assumed(String),
    /// It does not, as far as one can tell, for this reason.
    AssumedNot(String),
    /// For these clients.
    Clients(ClientSet),
    /// For this part of the flows.
    Share(f64),
    /// Nobody can tell, for this reason.
    Unclear(String),
}

/// A kind of packets that conditions are asked about.
pub(super) trait Facts {
    fn holds(&self, condition: &Match) -> Holds;
}

/// Everything that happens to a kind of packets.
#[derive(Clone, Debug, Default)]
pub(super) struct Course<'a> {
    /// In the order in which rules are asked. Clients that are in none of them are not translated.
    pub decisions: Vec<Decision<'a>>,
    /// Rules that took clients out before a later one could have them.
    pub spared: Vec<OriginId>,
    /// Rules that were passed over on an assumption.
    pub passed: Vec<(OriginId, String)>,
    /// Rules that do something else on the way.
    pub aside: Vec<(OriginId, String)>,
}

/// What becomes of some clients.
#[derive(Clone, Debug)]
pub(super) struct Decision<'a> {
    pub clients: ClientSet,
    /// Of their flows.
    pub share: f64,
    pub end: End<'a>,
    pub rule: &'a Rule,
    /// The rules that led here, each a jump.
    pub trail: Vec<OriginId>,
    /// What was assumed on the way.
    pub assumed: Vec<(OriginId, String)>,
    /// Whether it was asked for the protocol on the way.
    pub by_protocol: bool,
    /// Whether it was asked for the destination, or for its translation.
    pub by_destination: bool,
    /// Prefixes of clients that it was asked for.
    pub from: Vec<IpNet>,
}

impl Decision<'_> {
    /// The deciding rule and those that led to it.
    pub fn origins(&self) -> impl Iterator<Item = OriginId> + '_ {
        self.trail.iter().copied().chain([self.rule.origin])
    }
}

#[derive(Clone, Debug)]
pub(super) enum End<'a> {
    Nat(&'a Nat),
    /// No configuration has it, for this reason.
    Unclear(String),
}

/// Rules asked in one import; chains that call each other again and again could keep it busy for years.
pub(super) struct Budget(Cell<u64>);

impl Budget {
    /// Sixty thousand rules, each asked about as many kinds of packets as rules usually are: seconds.
    pub fn new() -> Self {
        Self(Cell::new(4_000_000))
    }

    pub fn spend(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }

    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}
