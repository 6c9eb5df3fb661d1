//! From what clients behind this host may to `[[masquerade]]`.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::ruleset::{Action, Match, Rule};

use super::outgoing::{Exit, Translated, Way};

/// A rule for clients behind this host.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    pub from: Vec<IpNet>,
    pub interface: Option<String>,
    pub way: Translated,
}

pub(super) fn find(exit: &Exit, journal: &mut Journal) -> Vec<Outbound> {
    let mut ways: BTreeMap<IpNet, Way> = BTreeMap::new();
    for prefix in prefixes(exit) {
        ways.insert(prefix, exit.way(prefix, journal));
    }
    give_up_wider(&mut ways, journal);
    let everybody = exit.family.everything();
    let everywhere = match ways.remove(&everybody) {
        Some(Way::Translated(way)) => wherever_clients_are(exit, *way, journal),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (prefix, way) in &ways {
        let Way::Translated(way) = way else { continue };
        // Named by some other rule, these clients are among all those that this one is for.
        if !way.by_client && wider(&ways, *prefix).is_none() && everywhere.is_empty() {
            continue;
        }
        if let Some(wider) = wider(&ways, *prefix)
            && way.does_as(wider)
        {
            covered(&way.origins, journal);
            continue;
        }
        let home = exit.places.home(*prefix).map(str::to_owned);
        let covers = |other: &Outbound| {
            other.way.does_as(way) && (home.is_none() || other.interface == home)
        };
        if everywhere.iter().any(covers) {
            covered(&way.origins, journal);
            continue;
        }
        let mut outbound = Outbound {
            from: vec![*prefix],
            interface: home,
            way: (**way).clone(),
        };
        if outbound.interface.is_none() && !everywhere.is_empty() {
            // A rule for a device comes before one without, whatever their prefixes.
            for other in &everywhere {
                outbound.interface.clone_from(&other.interface);
                found.push(outbound.clone());
            }
            continue;
        }
        found.push(outbound);
    }
    found.extend(everywhere);
    joined(found)
}

fn covered(origins: &BTreeSet<OriginId>, journal: &mut Journal) {
    for origin in origins {
        let why = "the clients of a wider prefix are translated the same";
        journal.note(Kind::Needless, *origin, why);
    }
}

/// Every prefix of clients that a rule tells apart, and all clients if a rule is for all.
fn prefixes(exit: &Exit) -> Vec<IpNet> {
    let mut all = Vec::new();
    for rule in exit.slice.all() {
        let sources = rule.matches.iter().filter_map(|one| match one {
            Match::Source(list) => Some(list),
            _ => None,
        });
        let mut named = false;
        for list in sources {
            all.extend(&list.value);
            named |= !list.not;
        }
        if !named && matches!(rule.action, Action::Nat(_)) {
            all.push(exit.family.everything());
        }
    }
    all.sort();
    all.dedup();
    all
}

/// A wider prefix would take the clients of a longer one that cannot have a rule of its own.
fn give_up_wider(ways: &mut BTreeMap<IpNet, Way>, journal: &mut Journal) {
    let mut prefixes: Vec<IpNet> = ways.keys().copied().collect();
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.prefix_len()));
    for (at, prefix) in prefixes.iter().enumerate() {
        let inner = prefixes[..at].iter().find(|inner| {
            prefix.contains(*inner)
                && *inner != prefix
                && !matches!(ways[*inner], Way::Translated(_))
        });
        let Some(inner) = inner else { continue };
        let Some(Way::Translated(way)) = ways.get(prefix) else {
            continue;
        };
        for origin in &way.origins {
            let why = format!(
                "it does not take {inner}, and a `[[masquerade]]` from {prefix} cannot leave that out"
            );
            journal.note(Kind::Untranslated, *origin, why);
        }
        ways.insert(*prefix, Way::Stuck);
    }
}

/// The nearest wider prefix that has a rule.
fn wider(ways: &BTreeMap<IpNet, Way>, prefix: IpNet) -> Option<&Translated> {
    let holding = ways
        .iter()
        .filter(|(one, _)| one.contains(&prefix) && **one != prefix);
    let (_, way) = holding.max_by_key(|(one, _)| one.prefix_len())?;
    match way {
        Way::Translated(way) => Some(way),
        Way::Plain | Way::Stuck => None,
    }
}

/// A rule without clients is for those on every device but the ones that it names for the way out.
fn wherever_clients_are(exit: &Exit, way: Translated, journal: &mut Journal) -> Vec<Outbound> {
    let interfaces = exit.places.interfaces.iter();
    let inside: Vec<&String> = match &way.devices {
        Some(devices) => interfaces.filter(|one| !devices.contains(*one)).collect(),
        None => interfaces
            .filter(|one| exit.places.is_inside(one))
            .collect(),
    };
    // What else the clients send would be dropped, which may be a lot where they are everybody.
    if inside.is_empty() || !way.ports.is_empty() {
        for origin in &way.origins {
            let why = "it also translates whatever else passes this host: if there are clients behind it, \
                       they need a `[[masquerade]]` that names their prefixes";
            let kind = match journal.is_translated(*origin) {
                true => Kind::Differs,
                false => Kind::Untranslated,
            };
            journal.note(kind, *origin, why);
        }
        return Vec::new();
    }
    let outbound = |interface: &String| Outbound {
        from: vec![exit.family.everything()],
        interface: Some(interface.clone()),
        way: way.clone(),
    };
    inside.into_iter().map(outbound).collect()
}

/// Rules that say the same of several prefixes are one.
fn joined(found: Vec<Outbound>) -> Vec<Outbound> {
    let mut all: Vec<Outbound> = Vec::new();
    for outbound in found {
        let same = all
            .iter_mut()
            .find(|one| one.interface == outbound.interface && one.way.does_as(&outbound.way));
        match same {
            Some(known) => {
                known.from.extend(outbound.from);
                known.way.origins.extend(outbound.way.origins);
                known.way.remarks.extend(outbound.way.remarks);
            }
            None => all.push(outbound),
        }
    }
    all
}

/// Whether a rule for packets that leave is about some destinations only.
pub(super) fn names_destination(rule: &Rule) -> bool {
    rule.matches.iter().any(|one| {
        matches!(one, Match::Destination(list) | Match::OriginalDestination(list)
            if !list.not && list.value.iter().all(|prefix| prefix.prefix_len() > 0))
    })
}
