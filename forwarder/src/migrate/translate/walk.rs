//! What the chains do with a kind of packets: netfilter's way through the rules, for all clients at once.

use ipnet::IpNet;

use crate::migrate::clients::ClientSet;
use crate::migrate::journal::OriginId;
use crate::migrate::ruleset::{Action, ChainId, Is, Match, Rule};

use super::course::{Budget, Course, Decision, End, Facts, Holds};
use super::slice::Slice;

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
    let mut left = clients.clone();
    for root in slice.roots() {
        let decided = walker.course.decisions.len();
        walker.chain(*root, vec![Part::whole(&left)], &Way::default());
        // What one base chain accepts the next one sees.
        for decision in &walker.course.decisions[decided..] {
            left = left.subtract(&decision.clients);
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

/// Clients that are still to be decided about.
#[derive(Clone)]
struct Part {
    clients: ClientSet,
    /// Of their flows.
    share: f64,
}

impl Part {
    fn whole(clients: &ClientSet) -> Self {
        Self {
            clients: clients.clone(),
            share: 1.0,
        }
    }
}

/// As few parts as say the same.
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match all.iter_mut().find(|one| one.share == part.share) {
            Some(known) => known.clients = known.clients.unite(&part.clients),
            None => all.push(part),
        }
    }
    all.retain(|part| !part.clients.is_empty());
    all
}

/// Parts with other clients, each as much of them as before.
fn each(parts: &[Part], change: impl Fn(&ClientSet) -> ClientSet) -> Vec<Part> {
    let changed = parts.iter().map(|part| Part {
        clients: change(&part.clients),
        share: part.share,
    });
    changed.filter(|part| !part.clients.is_empty()).collect()
}

/// The same clients with a part of their flows.
fn scaled(parts: &[Part], by: f64) -> Vec<Part> {
    let scale = |part: &Part| Part {
        clients: part.clients.clone(),
        share: part.share * by,
    };
    parts.iter().map(scale).collect()
}

/// All conditions of a rule together.
struct Hit {
    clients: ClientSet,
    part: f64,
    assumed: Vec<(OriginId, String)>,
    unclear: Option<String>,
}

impl<'a> Walker<'_, 'a> {
    /// Those of `live` that come back from `chain`, undecided.
    fn chain(&mut self, chain: ChainId, mut live: Vec<Part>, way: &Way) -> Vec<Part> {
        let mut back = Vec::new();
        for rule in self.slice.rules(chain) {
            let Some(first) = live.first() else { break };
            if !self.budget.spend() {
                break;
            }
            let rest = live.iter().skip(1);
            let clients = rest.fold(first.clients.clone(), |all, one| all.unite(&one.clients));
            let Some(hit) = self.hit(rule, clients) else {
                continue;
            };
            let taken = each(&live, |clients| clients.intersect(&hit.clients));
            let others = each(&live, |clients| clients.subtract(&hit.clients));
            let left = match &rule.action {
                Action::Aside(word) => {
                    self.course.aside.push((rule.origin, word.clone()));
                    taken
                }
                Action::Clamp(_) => {
                    self.course.aside.push((rule.origin, "TCPMSS".to_owned()));
                    taken
                }
                Action::Jump(_) | Action::Goto(_) => self.jump(rule, &hit, taken, (&mut back, way)),
                Action::Accept | Action::Return if hit.unclear.is_none() && hit.part >= 1.0 => {
                    self.course.spared.push(rule.origin);
                    if rule.action == Action::Return {
                        back.extend(taken);
                    }
                    Vec::new()
                }
                _ => self.decide(rule, &hit, taken, way),
            };
            live = merged(others.into_iter().chain(left).collect());
        }
        back.extend(live);
        merged(back)
    }

    /// Those who go on behind a jump.
    fn jump(
        &mut self,
        rule: &'a Rule,
        hit: &Hit,
        taken: Vec<Part>,
        (back, way): (&mut Vec<Part>, &Way),
    ) -> Vec<Part> {
        let Some(called) = rule.calls() else {
            return taken;
        };
        if way.trail.len() >= DEPTH {
            return taken;
        }
        if hit.unclear.is_some() {
            // It matters only if it would lead to a decision.
            return match self.decides(called, &taken) {
                true => self.decide(rule, hit, taken, way),
                false => taken,
            };
        }
        let mut inner = way.on(rule, hit);
        inner.trail.push(rule.origin);
        let returned = self.chain(called, scaled(&taken, hit.part), &inner);
        if hit.part < 1.0 {
            return match returned.is_empty() {
                true => scaled(&taken, 1.0 - hit.part),
                false => self.decide(rule, hit, taken, way),
            };
        }
        match rule.action {
            Action::Goto(_) => {
                back.extend(returned);
                Vec::new()
            }
            _ => returned,
        }
    }

    /// Whether a chain does not send all of `taken` back.
    fn decides(&mut self, called: ChainId, taken: &[Part]) -> bool {
        let before = self.course.clone();
        let returned = self.chain(called, taken.to_vec(), &Way::default());
        let came_back = |part: &Part| {
            returned
                .iter()
                .any(|one| one.share == part.share && part.clients.is_subset(&one.clients))
        };
        let decided =
            self.course.decisions.len() > before.decisions.len() || !taken.iter().all(came_back);
        self.course = before;
        decided
    }

    /// Those who go on behind a decision.
    fn decide(&mut self, rule: &'a Rule, hit: &Hit, taken: Vec<Part>, way: &Way) -> Vec<Part> {
        let way = way.on(rule, hit);
        let end = match (&hit.unclear, &rule.action) {
            (Some(reason), _) => End::Unclear(reason.clone()),
            (None, Action::Nat(nat)) => End::Nat(nat),
            (None, Action::Drop(word)) => {
                End::Unclear(format!("`{word}` among translations has no equivalent"))
            }
            (None, Action::Other(word)) => End::Unclear(format!("`{word}` has no equivalent")),
            (None, _) => End::Unclear("it concerns only a part of the connections".to_owned()),
        };
        for part in &taken {
            self.course.decisions.push(Decision {
                clients: part.clients.clone(),
                share: part.share * hit.part,
                end: end.clone(),
                rule,
                trail: way.trail.clone(),
                assumed: way.assumed.clone(),
                by_protocol: way.by_protocol,
                by_destination: way.by_destination,
                from: way.from.clone(),
            });
        }
        // Rules behind one that nobody can tell about have a part in it as well.
        if hit.unclear.is_some() {
            return taken;
        }
        match hit.part < 1.0 {
            true => scaled(&taken, 1.0 - hit.part),
            false => Vec::new(),
        }
    }

    /// Asks all conditions of a rule; `None` if it does not take any of the clients.
    fn hit(&mut self, rule: &Rule, clients: ClientSet) -> Option<Hit> {
        let mut hit = Hit {
            clients,
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
