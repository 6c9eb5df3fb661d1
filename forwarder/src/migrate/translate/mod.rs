//! Netfilter's rules to a configuration.
//!
//! Every kind of packets that the rules tell apart (by device, destination, protocol and ports) is sent through the
//! chains as the kernel would send it ([`walk`]), for all clients at once. What comes of it is a target, nothing, or
//! something that no configuration can say. From these the rules of a configuration are made, so that a packet meets in
//! the forwarder what it met in netfilter, whatever the order and nesting of the rules was.

mod arrival;
mod cells;
mod concerns;
mod course;
mod forwards;
mod joined;
mod leftovers;
mod listeners;
mod masquerades;
mod outcome;
mod outgoing;
mod outputs;
mod places;
mod slice;
mod source;
mod target;
mod walk;
mod whole;

use std::collections::BTreeSet;

use crate::config::MssClamp;

use super::Hints;
use super::draft::Draft;
use super::journal::{Journal, Kind, OriginId};
use super::ruleset::{Family, Hook, Rule, Ruleset};

use cells::{Field, Met};
use course::Budget;
use listeners::Listener;
use masquerades::Outbound;
use outgoing::Exit;
use outputs::Own;
use places::Places;
use slice::Slice;
use whole::Comments;

/// The rules ask each other in circles or are more than an import may take time for.
#[derive(Debug)]
pub(super) struct TooMany;

/// Makes a configuration of `rulesets`; everything else goes to the journal.
pub(super) fn translate(
    rulesets: &[Ruleset],
    hints: &Hints,
    journal: &mut Journal,
) -> Result<Draft, TooMany> {
    let mut places = Places::gather(rulesets, hints);
    let before = journal.clone();
    let (draft, elsewhere) = attempt(rulesets, &places, journal)?;
    if !elsewhere {
        return Ok(draft);
    }
    // Rules that are for every device but some need one that is not among those.
    *journal = before;
    places.invent();
    Ok(attempt(rulesets, &places, journal)?.0)
}

/// The segment size of all rules that take TCP, and the rules that say so.
type Clamped = Option<(MssClamp, Vec<OriginId>)>;

/// What a configuration is made of, of all families.
#[derive(Default)]
struct Parts {
    listeners: Vec<(Family, Listener)>,
    outbound: Vec<Outbound>,
    own: Vec<Own>,
    clamp: Clamped,
}

fn attempt(
    rulesets: &[Ruleset],
    places: &Places,
    journal: &mut Journal,
) -> Result<(Draft, bool), TooMany> {
    let budget = Budget::new();
    let mut parts = Parts::default();
    let mut elsewhere = false;
    let mut met = Met::new();
    for ruleset in rulesets {
        let field = Field::new(ruleset, places, &budget);
        let found = listeners::find(&field, &mut met, journal);
        elsewhere |= found.elsewhere;
        let origins: BTreeSet<OriginId> = found
            .all
            .iter()
            .flat_map(|one| one.forward.origins.iter().copied())
            .collect();
        origins
            .iter()
            .for_each(|origin| journal.translated(*origin));
        let all = found.all.into_iter().map(|one| (ruleset.family, one));
        parts.listeners.extend(all);
        parts
            .outbound
            .extend(outbound(ruleset, (places, &budget), &origins, journal));
        parts
            .own
            .extend(outputs::find(ruleset, places, &budget, journal));
        parts.clamp = leftovers::clamp(ruleset, journal).or(parts.clamp);
    }
    if budget.is_spent() {
        return Err(TooMany);
    }
    let comments = Comments::of(rulesets);
    let draft = whole::draft(parts, places, &comments, journal);
    for ruleset in rulesets {
        leftovers::rest(ruleset, places, &met, journal);
    }
    leftovers::everything_else(journal);
    Ok((draft, elsewhere))
}

/// What clients behind this host may; `used` are the rules that a `[[forward]]` was made from.
fn outbound(
    ruleset: &Ruleset,
    (places, budget): (&Places, &Budget),
    used: &BTreeSet<OriginId>,
    journal: &mut Journal,
) -> Vec<Outbound> {
    let slice = Slice::new(&ruleset.nat, Hook::Postrouting);
    let for_backends =
        |rule: &Rule| used.contains(&rule.origin) && masquerades::names_destination(rule);
    let exit = Exit {
        places,
        budget,
        family: ruleset.family,
        slice: slice.retain(|rule| !for_backends(rule)),
    };
    let found = masquerades::find(&exit, journal);
    let backends = slice
        .all()
        .filter(|rule| for_backends(rule) && rule.calls().is_none());
    for rule in backends.filter(|_| !found.is_empty()) {
        let why = "a client of a `[[masquerade]]` that asks this destination directly is seen as that says";
        journal.note(Kind::Differs, rule.origin, why);
    }
    found
}
