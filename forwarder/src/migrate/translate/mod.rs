//! Netfilter's rules to a configuration.
//!
//! Every kind of packets that the rules tell apart (by device, destination, protocol and ports) is sent through the
//! chains as the kernel would send it ([`walk`]), for all clients at once. What comes of it is a target, nothing, or
//! something that no configuration can say. From these the rules of a configuration are made, so that a packet meets in
//! the forwarder what it met in netfilter, whatever the order and nesting of the rules was.

mod arrival;
mod cells;
mod forwards;
mod leftovers;
mod listeners;
mod masquerades;
mod outcome;
mod outgoing;
mod outputs;
mod places;
mod slice;
mod source;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Interface, Mode, MssClamp, Output, PortRange, Span};

use super::Hints;
use super::draft::{Draft, Named, Written};
use super::journal::{Journal, Kind, OriginId};
use super::names::Names;
use super::ruleset::{Action, Clamp, Family, Hook, Nat, Rule, Ruleset};

use cells::{Field, Met};
use listeners::Listener;
use masquerades::Outbound;
use outgoing::Exit;
use outputs::Own;
use places::Places;
use slice::Slice;
use walk::Budget;

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
    let draft = draft(parts, places, &comments, journal);
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

/// What authors say about rules that translate destinations, and about those that translate sources.
#[derive(Default)]
struct Comments([BTreeMap<OriginId, String>; 2]);

impl Comments {
    fn of(rulesets: &[Ruleset]) -> Self {
        let mut comments = Self::default();
        for rule in rulesets.iter().flat_map(|ruleset| ruleset.nat.rules()) {
            let [destinations, sources] = &mut comments.0;
            let kind = match &rule.action {
                Action::Nat(Nat::Destination(_) | Nat::Redirect { .. }) => destinations,
                Action::Nat(_) => sources,
                _ => continue,
            };
            kind.extend(rule.comment.clone().map(|text| (rule.origin, text)));
        }
        comments
    }

    /// The name that an author would give to what was made of these rules.
    fn destination(&self, origins: &[OriginId]) -> &str {
        let mut said = origins.iter().filter_map(|origin| self.0[0].get(origin));
        said.next().map_or("", String::as_str)
    }

    fn source(&self, origins: &[OriginId]) -> &str {
        let mut said = origins.iter().filter_map(|origin| self.0[1].get(origin));
        said.next().map_or("", String::as_str)
    }
}

fn draft(parts: Parts, places: &Places, comments: &Comments, journal: &mut Journal) -> Draft {
    let mut names = Names::default();
    let clamp = &parts.clamp;
    let mut source_ports = SourcePorts::default();
    for (_, listener) in &parts.listeners {
        let translates = listener.forward.source != crate::config::Source::Preserve;
        source_ports.add(translates, listener.forward.source_ports);
    }
    for outbound in &parts.outbound {
        source_ports.add(true, outbound.way.source_ports);
    }
    let mut draft = Draft {
        source_ports: source_ports.common(journal),
        ..Draft::default()
    };
    draft.forwards = forwards::write(parts.listeners, clamp, (comments, &mut names), journal);
    let mut outbound = parts.outbound;
    outbound.sort_by_key(|one| one.way.origins.first().copied());
    for outbound in outbound {
        let written = forwards::outbound(outbound, clamp, (comments, &mut names), journal);
        draft.masquerades.extend(written);
    }
    for own in parts.own {
        draft
            .outputs
            .extend(output(own, (comments, &mut names), journal));
    }
    draft.interfaces = interfaces(&draft, places, journal);
    if let Some(remark) = places.told_by_rules() {
        journal.remark(remark);
    }
    draft
}

fn output(
    own: Own,
    (comments, names): (&Comments, &mut Names),
    journal: &mut Journal,
) -> Option<Written<Output>> {
    let instead = super::names::service(&own.protocols, own.ports);
    let rule = Output {
        name: names.take(&[
            comments.destination(&own.origins).to_owned(),
            format!("{instead}-out"),
            format!("{instead}-to-{}", own.address),
        ]),
        tcp: own.protocols.contains(&crate::config::Protocol::Tcp),
        udp: own.protocols.contains(&crate::config::Protocol::Udp),
        address: own.address,
        ports: own.ports,
        backend: forwards::backend(own.backend, own.ports),
        span: Span::default(),
    };
    let text = super::render::output(&rule);
    let written = Written::new(rule, own.origins);
    forwards::accept(&text, None, &written.origins, journal)?;
    forwards::remark(own.remarks, journal);
    Some(written)
}

/// Ports of translated sources, which a configuration has once.
#[derive(Default)]
struct SourcePorts {
    found: BTreeSet<Option<(u16, u16)>>,
}

impl SourcePorts {
    fn add(&mut self, translates: bool, ports: Option<PortRange>) {
        if translates {
            self.found
                .insert(ports.map(|ports| (ports.first, ports.last)));
        }
    }

    fn common(&self, journal: &mut Journal) -> Option<PortRange> {
        let mut found = self.found.iter();
        match (found.next(), found.next()) {
            (Some(Some((first, last))), None) => PortRange::new(*first, *last),
            (_, Some(_)) => {
                journal.remark(
                    "Rules limit the ports of translated sources in different ways. There is one such limit here, \
                     `source-ports` in `[limits]`, and it is left at its default.",
                );
                None
            }
            _ => None,
        }
    }
}

/// Every device that is needed, and what to know about them.
fn interfaces(draft: &Draft, places: &Places, journal: &mut Journal) -> Vec<Named> {
    let mut all = Vec::new();
    let mut unknown = BTreeSet::new();
    for written in &draft.forwards {
        for backend in written.rule.backends() {
            if places.way(backend.address).is_none() {
                unknown.insert(backend.address);
            }
        }
    }
    for name in &places.interfaces {
        let bridge = leftovers::is_docker_bridge(name);
        let remark = match (bridge, places.is_invented(name)) {
            (true, _) => Some("Docker makes this device; it is waited for.".to_owned()),
            (_, true) => Some(
                "No rule names the device that clients come in by. Put its name here, and in the rules below, if it \
                 is another one."
                    .to_owned(),
            ),
            _ => None,
        };
        all.push(named(name, bridge, remark));
    }
    if all.is_empty() {
        let remark =
            "No rule names a device. Put the name of the one that clients come in by here.";
        all.push(named("eth0", false, Some(remark.to_owned())));
    }
    if !unknown.is_empty() {
        let some: Vec<String> = unknown.iter().take(8).map(ToString::to_string).collect();
        let more = if unknown.len() > 8 { " and others" } else { "" };
        journal.remark(format!(
            "List every device on which packets of a connection arrive, those that backends answer by included: \
             whichever lead to {}{more}, unless they are listed below already.",
            some.join(", ")
        ));
    }
    all
}

fn named(name: &str, optional: bool, remark: Option<String>) -> Named {
    Named {
        interface: Interface {
            name: name.to_owned(),
            mode: Mode::Auto,
            optional,
            span: Span::default(),
        },
        remark,
    }
}

impl From<Clamp> for MssClamp {
    fn from(clamp: Clamp) -> Self {
        match clamp {
            Clamp::Path => Self::Auto,
            Clamp::Bytes(bytes) => Self::Bytes(bytes.clamp(Self::LEAST, Self::MOST)),
        }
    }
}

/// What to say of a rule that another one is told by.
fn note_all(journal: &mut Journal, kind: Kind, origins: &[OriginId], reason: &str) {
    for origin in origins {
        journal.note(kind, *origin, reason);
    }
}
