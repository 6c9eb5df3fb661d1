//! The whole of a configuration: names, devices, and what all rules have in common.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Interface, Mode, MssClamp, Output, PortRange, Protocol, Source, Span};
use crate::migrate::draft::{Draft, Named, Written};
use crate::migrate::journal::{Journal, OriginId};
use crate::migrate::names::{Names, service};
use crate::migrate::render;
use crate::migrate::ruleset::{Action, Clamp, Nat, Ruleset};

use super::outputs::Own;
use super::places::Places;
use super::{Parts, forwards, leftovers};

/// What authors say about rules that translate destinations, and about those that translate sources.
#[derive(Default)]
pub(super) struct Comments([BTreeMap<OriginId, String>; 2]);

impl Comments {
    pub fn of(rulesets: &[Ruleset]) -> Self {
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
    pub fn destination(&self, origins: &[OriginId]) -> &str {
        let mut said = origins.iter().filter_map(|origin| self.0[0].get(origin));
        said.next().map_or("", String::as_str)
    }

    pub fn source(&self, origins: &[OriginId]) -> &str {
        let mut said = origins.iter().filter_map(|origin| self.0[1].get(origin));
        said.next().map_or("", String::as_str)
    }
}

/// Puts everything together.
pub(super) fn draft(
    parts: Parts,
    places: &Places,
    comments: &Comments,
    journal: &mut Journal,
) -> Draft {
    let mut names = Names::default();
    let clamp = &parts.clamp;
    let mut source_ports = SourcePorts::default();
    for (_, listener) in &parts.listeners {
        let translates = listener.forward.source != Source::Preserve;
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
    let instead = service(&own.protocols, own.ports);
    let rule = Output {
        name: names.take(&[
            comments.destination(&own.origins).to_owned(),
            format!("{instead}-out"),
            format!("{instead}-to-{}", own.address),
        ]),
        tcp: own.protocols.contains(&Protocol::Tcp),
        udp: own.protocols.contains(&Protocol::Udp),
        address: own.address,
        ports: own.ports,
        backend: forwards::backend(own.backend, own.ports),
        on_change: None,
        span: Span::default(),
    };
    let text = render::output(&rule);
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
