//! What the chains do with a kind of packets: netfilter's way through the rules, for all clients at once.

use std::cell::Cell;

use ipnet::IpNet;

use crate::migrate::clients::ClientSet;
use crate::migrate::journal::OriginId;
use crate::migrate::ruleset::{Action, ChainId, Is, Match, Nat, Rule};

use super::slice::Slice;

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
    /// Ten thousand rules, each asked about a thousand kinds of packets: seconds.
    pub fn new() -> Self {
        Self(Cell::new(10_000_000))
    }

    fn spend(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }

    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// As deep as chains may call each other; the kernel allows 16 (`NFT_JUMP_STACK_SIZE`) or as many as there are.
const DEPTH: usize = 64;

/// Lets packets with these `facts`, of `clients`, through the chains of a hook.
pub(super) fn walk<'a>(
    slice: &Slice<'a>,
    facts: &dyn Facts,
    clients: &ClientSet,
    budget: &Budget,
) -> Course<'a> {
    let mut walker = Walker {
        slice,
        facts,
        budget,
        course: Course::default(),
    };
    let mut live = clients.clone();
    for root in slice.roots() {
        let decided = walker.course.decisions.len();
        walker.chain(*root, &Live::new(&live), &Way::default());
        // What one base chain accepts the next one sees.
        for decision in &walker.course.decisions[decided..] {
            live = live.subtract(&decision.clients);
        }
    }
    walker.course
}

struct Walker<'s, 'a> {
    slice: &'s Slice<'a>,
    facts: &'s dyn Facts,
    budget: &'s Budget,
    course: Course<'a>,
}

/// How a chain was come to.
#[derive(Clone, Default)]
struct Way {
    trail: Vec<OriginId>,
    assumed: Vec<(OriginId, String)>,
    by_protocol: bool,
    by_destination: bool,
    from: Vec<IpNet>,
}

impl Way {
    /// The way on, through `rule`.
    fn on(&self, rule: &Rule, hit: &Hit) -> Self {
        let mut way = self.clone();
        way.assumed.extend(hit.assumed.iter().cloned());
        way.by_protocol |= rule
            .matches
            .iter()
            .any(|one| matches!(one, Match::Protocol(_) | Match::Ports(_)));
        for condition in &rule.matches {
            if let Match::Source(Is { not: false, value }) = condition {
                way.from.extend(value);
            }
        }
        way.by_destination |= rule.matches.iter().any(|one| match one {
            Match::Destination(list) | Match::OriginalDestination(list) => !list.not,
            Match::Translated(translated) => *translated,
            Match::OriginalPorts(_) => true,
            _ => false,
        });
        way
    }
}

/// Who is still to be decided about.
#[derive(Clone)]
struct Live {
    clients: ClientSet,
    share: f64,
}

impl Live {
    fn new(clients: &ClientSet) -> Self {
        Self {
            clients: clients.clone(),
            share: 1.0,
        }
    }
}

/// All conditions of a rule together.
struct Hit {
    clients: ClientSet,
    part: f64,
    assumed: Vec<(OriginId, String)>,
    unclear: Option<String>,
}

impl<'a> Walker<'_, 'a> {
    /// The clients that come back from `chain`, undecided.
    fn chain(&mut self, chain: ChainId, live: &Live, way: &Way) -> ClientSet {
        let mut live = live.clone();
        let mut back = ClientSet::nobody_like(&live.clients);
        for rule in self.slice.rules(chain) {
            if live.clients.is_empty() || !self.budget.spend() {
                break;
            }
            let Some(hit) = self.hit(rule, &live.clients) else {
                continue;
            };
            match &rule.action {
                Action::Aside(word) => self.course.aside.push((rule.origin, word.clone())),
                Action::Clamp(_) => self.course.aside.push((rule.origin, "TCPMSS".to_owned())),
                Action::Jump(_) | Action::Goto(_) if hit.unclear.is_some() => {
                    if self.decides(rule, &hit) {
                        self.decide(rule, hit, &mut live, way);
                    }
                }
                Action::Jump(called) => {
                    let left = self.call(*called, rule, &hit, (&live, way));
                    live.leave(&hit, &left);
                }
                Action::Goto(called) => {
                    let left = self.call(*called, rule, &hit, (&live, way));
                    back = back.unite(&left);
                    live.clients = live.clients.subtract(&hit.clients);
                }
                Action::Accept | Action::Return if hit.unclear.is_none() && hit.part >= 1.0 => {
                    self.course.spared.push(rule.origin);
                    live.clients = live.clients.subtract(&hit.clients);
                    if rule.action == Action::Return {
                        back = back.unite(&hit.clients);
                    }
                }
                _ => self.decide(rule, hit, &mut live, way),
            }
        }
        back.unite(&live.clients)
    }

    fn call(
        &mut self,
        chain: ChainId,
        rule: &Rule,
        hit: &Hit,
        (live, way): (&Live, &Way),
    ) -> ClientSet {
        if way.trail.len() >= DEPTH {
            return hit.clients.clone();
        }
        let mut way = way.on(rule, hit);
        way.trail.push(rule.origin);
        let inner = Live {
            clients: hit.clients.clone(),
            share: live.share * hit.part,
        };
        self.chain(chain, &inner, &way)
    }

    /// Whether a jump that nobody can tell about would lead to a decision.
    fn decides(&mut self, rule: &'a Rule, hit: &Hit) -> bool {
        let before = self.course.clone();
        let Some(called) = rule.calls() else {
            return true;
        };
        let live = Live::new(&hit.clients);
        let left = self.call(called, rule, hit, (&live, &Way::default()));
        let all_come_back = hit.clients.is_subset(&left);
        let decided = self.course.decisions.len() > before.decisions.len() || !all_come_back;
        self.course = before;
        decided
    }

    fn decide(&mut self, rule: &'a Rule, hit: Hit, live: &mut Live, way: &Way) {
        let way = way.on(rule, &hit);
        let partly = hit.unclear.is_some();
        let end = match (hit.unclear, &rule.action) {
            (Some(reason), _) => End::Unclear(reason),
            (None, Action::Nat(nat)) => End::Nat(nat),
            (None, Action::Drop(word)) => {
                End::Unclear(format!("`{word}` among translations has no equivalent"))
            }
            (None, Action::Other(word)) => End::Unclear(format!("`{word}` has no equivalent")),
            (None, _) => End::Unclear("it concerns only a part of the connections".to_owned()),
        };
        self.course.decisions.push(Decision {
            clients: hit.clients.clone(),
            share: live.share * hit.part,
            end,
            rule,
            trail: way.trail,
            assumed: way.assumed,
            by_protocol: way.by_protocol,
            by_destination: way.by_destination,
            from: way.from,
        });
        // Rules behind one that nobody can tell about have a part in it as well.
        if partly {
            return;
        }
        if hit.part < 1.0 {
            live.share *= 1.0 - hit.part;
        } else {
            live.clients = live.clients.subtract(&hit.clients);
        }
    }

    /// Asks all conditions of a rule; `None` if it does not take any of the clients.
    fn hit(&mut self, rule: &Rule, clients: &ClientSet) -> Option<Hit> {
        let mut hit = Hit {
            clients: clients.clone(),
            part: 1.0,
            assumed: Vec::new(),
            unclear: None,
        };
        let mut passed = None;
        for condition in &rule.matches {
            match self.facts.holds(condition) {
                Holds::Yes => {}
                Holds::No => return None,
                Holds::AssumedNot(what) => passed = Some(what),
                Holds::Assumed(what) => hit.assumed.push((rule.origin, what)),
                Holds::Clients(some) => hit.clients = hit.clients.intersect(&some),
                Holds::Share(part) => hit.part *= part,
                Holds::Unclear(reason) => {
                    hit.unclear.get_or_insert(reason);
                }
            }
        }
        if hit.clients.is_empty() || hit.part <= 0.0 {
            return None;
        }
        if let Some(what) = passed {
            self.course.passed.push((rule.origin, what));
            return None;
        }
        Some(hit)
    }
}

impl Live {
    /// Those of `hit` that came back from the chain they were sent to go on here.
    fn leave(&mut self, hit: &Hit, back: &ClientSet) {
        let gone = hit.clients.subtract(back);
        if hit.part < 1.0 {
            self.share *= 1.0 - hit.part;
        } else {
            self.clients = self.clients.subtract(&gone);
        }
    }
}
