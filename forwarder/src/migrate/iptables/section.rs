//! Tables of iptables, as they are put together line by line.

use super::rule::RawRule;
use crate::migrate::journal::{Journal, Kind, OriginId};
use crate::migrate::ruleset::{
    Action, Chain, ChainId, Family, Hook, Match, Nat, Rule, Ruleset, Table,
};

/// All tables of a text.
#[derive(Default)]
pub(super) struct Sections(Vec<Section>);

/// One table.
pub(super) struct Section {
    table: String,
    /// `None`: nobody has said so far.
    family: Option<Family>,
    chains: Vec<(Chain, Vec<(OriginId, RawRule)>)>,
}

impl Sections {
    pub fn get(&mut self, table: &str, family: Option<Family>) -> &mut Section {
        let known = self
            .0
            .iter()
            .position(|one| one.table == table && one.family == family);
        let at = known.unwrap_or_else(|| {
            self.0.push(Section {
                table: table.to_owned(),
                family,
                chains: Vec::new(),
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// The rules of each family, in the order of the families.
    pub fn build(self, journal: &mut Journal) -> Vec<Ruleset> {
        let mut rulesets: Vec<Ruleset> = Vec::new();
        for section in self.0 {
            let family = section.family();
            let table = section.build(family, journal);
            let at = rulesets.iter().position(|one| one.family == family);
            let at = at.unwrap_or_else(|| {
                rulesets.push(Ruleset::new(family));
                rulesets.len() - 1
            });
            let ruleset = &mut rulesets[at];
            match table.name.as_str() {
                "nat" if ruleset.nat.chains.is_empty() => ruleset.nat = table,
                "nat" => refuse_second(&table, journal),
                _ => ruleset.others.push(table),
            }
        }
        rulesets.sort_by_key(|one| one.family);
        rulesets
    }
}

impl Section {
    fn chain(&mut self, name: &str) -> ChainId {
        let known = self.chains.iter().position(|(chain, _)| chain.name == name);
        known.unwrap_or_else(|| {
            let chain = Chain {
                name: name.to_owned(),
                rules: Vec::new(),
                drops_by: None,
            };
            self.chains.push((chain, Vec::new()));
            self.chains.len() - 1
        })
    }

    pub fn declare(
        &mut self,
        name: &str,
        policy: Option<&str>,
        (number, line): (usize, &str),
        journal: &mut Journal,
    ) {
        let chain = self.chain(name);
        if policy == Some("DROP") {
            let origin = journal.add(format!("line {number}"), line);
            self.chains[chain].0.drops_by = Some(origin);
        }
    }

    /// Adds a rule to a chain, at its end or at a position.
    pub fn append(
        &mut self,
        (chain, position): (&str, Option<usize>),
        words: &[String],
        (number, line): (usize, &str),
        journal: &mut Journal,
    ) {
        let chain = self.chain(chain);
        let origin = journal.add(format!("line {number}"), line);
        let rules = &mut self.chains[chain].1;
        let position = position.unwrap_or(rules.len()).min(rules.len());
        rules.insert(position, (origin, RawRule::read(words)));
    }

    /// What was said, else that of the first address.
    fn family(&self) -> Family {
        let rules = self.chains.iter().flat_map(|(_, rules)| rules);
        let guess = || {
            rules.into_iter().find_map(|(_, rule)| {
                let matched = rule.matches.iter().find_map(family_of);
                matched.or(rule.target.address().map(Family::of))
            })
        };
        self.family.or_else(guess).unwrap_or(Family::V4)
    }

    fn build(self, family: Family, journal: &mut Journal) -> Table {
        let mut table = Table::new(&self.table);
        let names: Vec<String> = self
            .chains
            .iter()
            .map(|(chain, _)| chain.name.clone())
            .collect();
        for (id, (mut chain, rules)) in self.chains.into_iter().enumerate() {
            for (origin, raw) in rules {
                let find = |name: &str| names.iter().position(|known| known == name);
                let rule = Rule {
                    origin,
                    matches: raw.matches,
                    comment: raw.comment,
                    action: raw.target.action(find),
                };
                chain.rules.push(of_family(rule, family));
            }
            if let Some(hook) = hook(&chain.name) {
                table.roots.entry(hook).or_default().push(id);
            }
            table.chains.push(chain);
        }
        note_unknown_tables(&table, journal);
        table
    }
}

fn refuse_second(table: &Table, journal: &mut Journal) {
    for rule in table.rules() {
        let why = "there is another table `nat` of this family before this one; translate them one by one";
        journal.note(Kind::Untranslated, rule.origin, why);
    }
}

/// A table that the kernel does not have is a slip in the file.
fn note_unknown_tables(table: &Table, journal: &mut Journal) {
    if !["nat", "filter", "mangle", "raw", "security"].contains(&table.name.as_str()) {
        for rule in table.rules() {
            let why = format!("there is no table `{}`", table.name);
            journal.note(Kind::Untranslated, rule.origin, why);
        }
    }
}

fn hook(chain: &str) -> Option<Hook> {
    match chain {
        "PREROUTING" => Some(Hook::Prerouting),
        "INPUT" => Some(Hook::Input),
        "FORWARD" => Some(Hook::Forward),
        "OUTPUT" => Some(Hook::Output),
        "POSTROUTING" => Some(Hook::Postrouting),
        _ => None,
    }
}

fn family_of(condition: &Match) -> Option<Family> {
    match condition {
        Match::Source(prefixes)
        | Match::Destination(prefixes)
        | Match::OriginalDestination(prefixes) => {
            prefixes.value.first().map(|one| Family::of(one.addr()))
        }
        Match::Protocol(numbers) if numbers.value == [58] => Some(Family::V6),
        _ => None,
    }
}

/// The rule, or what is left of one that has addresses of another family.
fn of_family(mut rule: Rule, family: Family) -> Rule {
    let stranger = |one: &Match| {
        family_of(one).is_some_and(|found| found != family) && !matches!(one, Match::Protocol(_))
    };
    let target = match &rule.action {
        Action::Nat(Nat::Destination(to)) => to.addresses.first().map(|one| one.first),
        Action::Nat(Nat::Source { addresses, .. }) => Some(addresses.first),
        _ => None,
    };
    if rule.matches.iter().any(stranger)
        || target.is_some_and(|address| Family::of(address) != family)
    {
        let why = format!("an address that is not of {family}, as the table is");
        rule.matches = vec![Match::Other(why)];
    }
    rule
}
