//! Rules that have no part in the configuration, and why.

use crate::config::MssClamp;
use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::ruleset::{Action, ChainId, Device, Hook, Is, Match, Rule, Ruleset, Table};

use super::cells::Met;
use super::places::{Places, is_device, is_ethernet};

/// A rule that does something besides translation.
pub(super) fn aside(journal: &mut Journal, origin: OriginId, word: &str) {
    journal.note(Kind::Bypassed, origin, bypassed(word));
}

fn bypassed(word: &str) -> String {
    match word {
        "counter" => "rules have counters of their own: `forwarder rules`".to_owned(),
        word => format!("`{word}` does not see packets that are forwarded"),
    }
}

/// A rule that is not written because of those that say as whom it sends.
pub(super) fn stuck_source(
    journal: &mut Journal,
    forward: &[OriginId],
    departures: &[OriginId],
    why: &str,
) {
    let reason = format!(
        "as whom it sends is said by {}: {why}",
        journal.places(departures)
    );
    journal.note_all(Kind::Untranslated, forward, &reason);
    journal.note_all(Kind::Untranslated, departures, why);
}

/// The segment size that TCP connections are lowered to, and the rules that say so.
pub(super) fn clamp(ruleset: &Ruleset, journal: &mut Journal) -> Option<(MssClamp, Vec<OriginId>)> {
    let mut found = None;
    for table in &ruleset.others {
        for chain in table.reachable(Hook::Forward) {
            for rule in &table.chains[chain].rules {
                let Action::Clamp(clamp) = rule.action else {
                    continue;
                };
                let (size, origins) = found.get_or_insert((clamp.into(), Vec::new()));
                *size = clamp.into();
                origins.push(rule.origin);
                let plain = rule
                    .matches
                    .iter()
                    .all(|one| matches!(one, Match::Protocol(_)));
                if !plain {
                    let why = "`mss-clamp` is in every rule that takes TCP, whatever else this one asks for";
                    journal.note(Kind::Differs, rule.origin, why);
                }
            }
        }
    }
    found
}

/// Everything of a ruleset that has no fate yet.
pub(super) fn rest(ruleset: &Ruleset, places: &Places, met: &Met, journal: &mut Journal) {
    let nat = Reach::new(&ruleset.nat);
    // Chains that are called come after those that call them here, so that a jump knows what it leads to.
    for (id, chain) in ruleset.nat.chains.iter().enumerate().rev() {
        if let Some(origin) = chain.drops_by {
            journal.note(
                Kind::Untranslated,
                origin,
                "a table of translations drops nothing",
            );
        }
        for rule in &chain.rules {
            if !journal.has_fate(rule.origin) {
                translation(rule, (&nat, id), (ruleset, places, met), journal);
            }
        }
    }
    for table in &ruleset.others {
        bystander(table, journal);
    }
}

/// Which chains are called from where.
struct Reach {
    by_hook: Vec<(Hook, Vec<ChainId>)>,
}

impl Reach {
    fn new(table: &Table) -> Self {
        let hooks = [
            Hook::Prerouting,
            Hook::Input,
            Hook::Forward,
            Hook::Output,
            Hook::Postrouting,
        ];
        Self {
            by_hook: hooks.map(|hook| (hook, table.reachable(hook))).to_vec(),
        }
    }

    fn is_from(&self, hook: Hook, chain: ChainId) -> bool {
        self.by_hook
            .iter()
            .any(|(one, chains)| *one == hook && chains.contains(&chain))
    }

    fn is_dead(&self, chain: ChainId) -> bool {
        self.by_hook
            .iter()
            .all(|(_, chains)| !chains.contains(&chain))
    }
}

/// A rule of the table `nat`.
fn translation(
    rule: &Rule,
    (reach, chain): (&Reach, ChainId),
    (ruleset, places, met): (&Ruleset, &Places, &Met),
    journal: &mut Journal,
) {
    if let Action::Aside(word) = &rule.action {
        return aside(journal, rule.origin, word);
    }
    let note = |journal: &mut Journal, why: String| {
        journal.note(Kind::Untranslated, rule.origin, why);
    };
    if reach.is_dead(chain) {
        let why = format!(
            "no rule leads to its chain {}",
            ruleset.nat.chains[chain].name
        );
        return note(journal, why);
    }
    if let Some(why) = rule.matches.iter().find_map(|one| impossible(one, places)) {
        // Packets that are not looked at need no exception.
        let spares = matches!(rule.action, Action::Accept | Action::Return);
        let device = rule.matches.iter().any(|one| matches!(one, Match::In(_)));
        return match spares && device {
            true => journal.note(Kind::Needless, rule.origin, why),
            false => note(journal, why),
        };
    }
    let arrives = reach.is_from(Hook::Prerouting, chain);
    let leaves = reach.is_from(Hook::Postrouting, chain);
    let why = match &rule.action {
        Action::Accept | Action::Return if met.contains(&rule.origin) => {
            let why = "the configuration leaves its packets alone as well";
            return journal.note(Kind::Needless, rule.origin, why);
        }
        Action::Accept | Action::Return => {
            let why = "no rule of the configuration would take its packets";
            return journal.note(Kind::Needless, rule.origin, why);
        }
        Action::Jump(called) | Action::Goto(called)
            if ruleset.nat.chains[*called].rules.is_empty() =>
        {
            return journal.note(Kind::Needless, rule.origin, "its chain has no rules");
        }
        Action::Jump(_) | Action::Goto(_) => "nothing that it leads to is translated",
        _ if met.contains(&rule.origin) => "it changes nothing",
        _ if arrives => "no packet comes to it: rules before it take them all",
        _ if leaves => {
            "what it takes is taken by rules before it, or no rule of the configuration sends it"
        }
        _ if reach.is_from(Hook::Output, chain) => "an `[[output]]` is for a port of one address",
        _ => "packets that are delivered here are not translated on the way in",
    };
    note(journal, why.to_owned());
}

/// Why a condition holds for nothing that is forwarded.
fn impossible(condition: &Match, places: &Places) -> Option<String> {
    match condition {
        Match::Never(why) => Some(why.clone()),
        Match::Protocol(Is { not: false, value }) if !value.contains(&6) && !value.contains(&17) => {
            Some("its protocol is neither TCP nor UDP; echo of a `[[masquerade]]`'s clients needs no rule".to_owned())
        }
        Match::In(Is { not: false, value }) => no_device(value, places),
        _ => None,
    }
}

fn no_device(device: &Device, places: &Places) -> Option<String> {
    let name = &device.name;
    if device.open {
        let known = places.interfaces.iter().any(|one| device.fits(one));
        return (!known).then(|| {
            format!(
                "no device whose name begins with `{name}` is known; `--interface NAME` names one"
            )
        });
    }
    if name == "lo" {
        return Some("packets of this host to itself are not looked at".to_owned());
    }
    if !is_device(name) {
        return Some(format!("`{name}` is no name of a device"));
    }
    (!is_ethernet(name)).then(|| {
        format!("{name} has no Ethernet frames, and nothing that arrives by it is forwarded")
    })
}

/// A table that translates nothing.
fn bystander(table: &Table, journal: &mut Journal) {
    let reach = Reach::new(table);
    for (id, chain) in table.chains.iter().enumerate() {
        let drops = chain.drops_by.map(|origin| (origin, true));
        let rules = chain.rules.iter();
        let rules = rules.map(|rule| (rule.origin, matches!(rule.action, Action::Drop(_))));
        for (origin, drops) in rules.chain(drops) {
            if !journal.has_fate(origin) {
                let (kind, why) = fate(&reach, id, drops);
                journal.note(kind, origin, why);
            }
        }
    }
}

fn fate(reach: &Reach, chain: ChainId, drops: bool) -> (Kind, &'static str) {
    let passes = [Hook::Forward, Hook::Prerouting, Hook::Postrouting];
    if reach.is_dead(chain) {
        return (Kind::Needless, "no rule leads to its chain");
    }
    if !passes.iter().any(|hook| reach.is_from(*hook, chain)) {
        let why = "packets of and for this host itself, which it is about, pass it as before";
        return (Kind::Needless, why);
    }
    let why = match drops {
        true => {
            "forwarded packets do not come to it, and it keeps nobody out: say it with `allow` or `deny` of a \
             `[[forward]]`, `from` and `ports` of a `[[masquerade]]`"
        }
        false => "forwarded packets do not come to it",
    };
    (Kind::Bypassed, why)
}

/// So that nothing is left out in silence, whatever it is.
pub(super) fn everything_else(journal: &mut Journal) {
    for origin in journal.fateless() {
        journal.note(
            Kind::Untranslated,
            origin,
            "it has no part in what was translated",
        );
    }
}

/// Whether Docker gives such names to its bridges.
pub(super) fn is_docker_bridge(name: &str) -> bool {
    let number = name.strip_prefix("br-");
    name == "docker0"
        || number.is_some_and(|number| {
            number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}
