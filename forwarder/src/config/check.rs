//! What only the whole file can tell: names, and the sum of it. What is about one kind of rules has a
//! file of its own.

use std::collections::HashMap;

use super::check_masquerade;
use super::check_output;
use super::check_overlap;
use super::check_rule;
use super::errors::Diagnostic;
use super::model::Protocol;
use super::raw::RawConfig;
use super::span::{Located, Origin, Span};
use super::suggest::{did_you_mean, one_of};
use super::token::quoted;
use super::tree::Reader;

pub(super) const MINIMAL: &str = "\
[[interface]]
name = \"eth0\"

[[forward]]
listen = \"*:110\"
to = \"192.0.2.1:110\"
source = \"masquerade\"";

/// All checks; those on values that could not be read are left out.
pub(super) fn whole_file(reader: &mut Reader, raw: &RawConfig, origin: &Origin) {
    if !raw.mentions.anything {
        let message = "the file is empty: expected at least one `[[interface]]` and one rule, such as a `[[forward]]`";
        reader.push(
            Diagnostic::whole(Span::default(), message)
                .help("a minimal one is")
                .note(MINIMAL),
        );
        return;
    }
    presence(reader, raw);
    let interfaces = raw
        .interfaces
        .iter()
        .filter_map(|interface| interface.name.as_ref());
    unique(reader, origin, "interface", interfaces);
    unique(reader, origin, "rule", rule_names(raw).into_iter());
    for rule in &raw.rules {
        known_interface(reader, raw, &rule.interface);
        check_rule::forward(reader, rule);
    }
    for rule in &raw.masquerades {
        known_interface(reader, raw, &rule.interface);
        check_masquerade::masquerade(reader, rule, origin);
    }
    for rule in &raw.outputs {
        check_output::output(reader, rule);
    }
    check_overlap::listeners(reader, &raw.rules, origin);
    check_masquerade::prefixes(reader, &raw.masquerades, origin);
    check_overlap::destinations(reader, &raw.outputs, origin);
    total(reader, raw);
}

fn presence(reader: &mut Reader, raw: &RawConfig) {
    let mut missing = |there: bool, what: &str, help: &str| {
        if !there {
            let message = format!("no `{what}`: expected at least one");
            reader.push(Diagnostic::whole(Span::default(), message).help(help));
        }
    };
    missing(
        raw.mentions.interface,
        "[[interface]]",
        "name the device on which packets arrive",
    );
    missing(
        raw.mentions.rules,
        "[[forward]]`, `[[masquerade]]` or `[[output]]",
        "say what to take and where to send it",
    );
}

/// Of all three kinds of rules, in the file's order: of two that are the same the later one is to be repaired.
fn rule_names(raw: &RawConfig) -> Vec<&Located<String>> {
    let forward = raw.rules.iter().map(|rule| &rule.name);
    let masquerade = raw.masquerades.iter().map(|rule| &rule.name);
    let output = raw.outputs.iter().map(|rule| &rule.name);
    let names = forward.chain(masquerade).chain(output).flatten();
    let mut names: Vec<_> = names.collect();
    names.sort_by_key(|name| name.span.start);
    names
}

fn unique<'a>(
    reader: &mut Reader,
    origin: &Origin,
    what: &str,
    names: impl Iterator<Item = &'a Located<String>>,
) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in names {
        if let Some(first) = seen.get(name.value.as_str()) {
            let message = format!(
                "duplicate {what} name {}: expected each once",
                quoted(&name.value)
            );
            let help = format!("the first one stands at {}", origin.place(*first));
            reader.push(Diagnostic::whole(name.span, message).help(help));
        } else {
            seen.insert(&name.value, name.span);
        }
    }
}

/// `interface` is that of a rule.
fn known_interface(
    reader: &mut Reader,
    raw: &RawConfig,
    interface: &Option<Option<Located<String>>>,
) {
    let Some(Some(name)) = interface else {
        return;
    };
    let known = raw
        .interfaces
        .iter()
        .filter_map(|interface| interface.name.as_ref());
    let known: Vec<&str> = known.map(|name| name.value.as_str()).collect();
    // Without a readable name the problem is noted there.
    if known.is_empty() || known.contains(&name.value.as_str()) {
        return;
    }
    let message = format!(
        "interface {} is not configured: expected {}",
        quoted(&name.value),
        one_of(&known)
    );
    let add = || "add an `[[interface]]` with this name".to_owned();
    let help = did_you_mean(&name.value, known.iter().copied()).unwrap_or_else(add);
    reader.push(Diagnostic::whole(name.span, message).help(help));
}

/// How many places of the rule table a rule takes, and where its header stands.
fn places(raw: &RawConfig) -> impl Iterator<Item = (usize, Span)> + '_ {
    let protocols = |protocols: &Option<Vec<Protocol>>| protocols.as_ref().map_or(1, Vec::len);
    let rules = raw.rules.iter().map(move |rule| {
        let backends = rule
            .target
            .as_ref()
            .map_or(1, |to| to.backends().len().max(1));
        (protocols(&rule.protocols) * backends, rule.header)
    });
    let masquerades = raw.masquerades.iter().map(|rule| {
        // Without `ports` it is all of both protocols.
        let ports = rule.ports.as_ref().map_or(1, Vec::len);
        (
            if ports == 0 {
                Protocol::ALL.len()
            } else {
                ports
            },
            rule.header,
        )
    });
    let outputs = raw.outputs.iter();
    let outputs = outputs.map(move |rule| (protocols(&rule.protocols), rule.header));
    rules.chain(masquerades).chain(outputs)
}

fn total(reader: &mut Reader, raw: &RawConfig) {
    let needed: usize = places(raw).map(|(places, _)| places).sum();
    let limit = raw.settings.limits.rules;
    if needed <= limit as usize {
        return;
    }
    let mut so_far = 0;
    let crossing = places(raw).find(|(places, _)| {
        so_far += places;
        so_far > limit as usize
    });
    let span = raw
        .settings
        .rules_limit
        .or(crossing.map(|(_, header)| header))
        .unwrap_or_default();
    let message = format!(
        "`limits.rules` is `{limit}`, but the rules take {needed} places: expected at most `{limit}`"
    );
    let help = "raise the limit, or take out rules, protocols, ports or backends";
    reader.push(Diagnostic::whole(span, message).help(help));
}
