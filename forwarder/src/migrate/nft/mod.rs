//! `nft -j list ruleset`: the JSON of libnftables-json(5).
//!
//! It is read as plain JSON. A crate with a type for every object of it exists (`nftables`), but it leaves out keys that
//! it does not know, and such a key can turn one translation into another (`type_flags`).

mod condition;
mod nat;
mod rule;
mod shown;
mod values;

use serde_json::Value;

use rule::{Body, Reader, Verdict};
use values::{Sets, TableName};

use super::journal::{Journal, Kind, OriginId};
use super::ruleset::{Action, Chain, ChainId, Family, Hook, Rule, Ruleset, Table};

/// Reads `text`; what cannot be read gets its finding.
///
/// # Errors
/// It is not the JSON of a ruleset, and why.
pub(super) fn read(text: &str, journal: &mut Journal) -> Result<Vec<Ruleset>, String> {
    let root: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let objects = root
        .get("nftables")
        .and_then(Value::as_array)
        .ok_or("no list `nftables`")?;
    let mut loaded = Loaded::default();
    for object in objects {
        loaded.add(object, journal);
    }
    let mut rulesets = Vec::new();
    for family in [Family::V4, Family::V6] {
        let ruleset = loaded.ruleset(family);
        if ruleset.nat.rules().next().is_some() || !ruleset.others.is_empty() {
            rulesets.push(ruleset);
        }
    }
    Ok(rulesets)
}

/// Everything that was read.
#[derive(Default)]
struct Loaded {
    sets: Sets,
    chains: Vec<RawChain>,
}

struct RawChain {
    table: TableName,
    name: String,
    /// Type, hook and priority.
    base: Option<(String, Hook, i64)>,
    drops_by: Option<OriginId>,
    rules: Vec<(OriginId, Option<String>, Vec<Value>)>,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn table_of(value: &Value) -> TableName {
    (
        text(value, "family").to_owned(),
        text(value, "table").to_owned(),
    )
}

impl Loaded {
    fn add(&mut self, object: &Value, journal: &mut Journal) {
        let Some((kind, inner)) = object.as_object().and_then(|object| object.iter().next()) else {
            return;
        };
        match kind.as_str() {
            "set" | "map" | "element" => {
                let elements = inner.get("elem").unwrap_or(&Value::Null);
                self.sets
                    .add(table_of(inner), text(inner, "name"), elements);
            }
            "chain" => self.chain(inner, journal),
            "rule" => self.rule(inner, journal),
            _ => {}
        }
    }

    fn chain(&mut self, inner: &Value, journal: &mut Journal) {
        let (table, name) = (table_of(inner), text(inner, "name").to_owned());
        let prio = inner.get("prio").and_then(Value::as_i64).unwrap_or(0);
        let base =
            hook(text(inner, "hook")).map(|hook| (text(inner, "type").to_owned(), hook, prio));
        let drops_by = (text(inner, "policy") == "drop").then(|| {
            let place = format!("{} {} {name}", table.0, table.1);
            journal.add(place, "policy drop")
        });
        let chain = self.chain_of(&table, &name);
        chain.base = base;
        chain.drops_by = drops_by;
    }

    fn chain_of(&mut self, table: &TableName, name: &str) -> &mut RawChain {
        let known = self
            .chains
            .iter()
            .position(|chain| chain.table == *table && chain.name == name);
        let at = known.unwrap_or_else(|| {
            self.chains.push(RawChain {
                table: table.clone(),
                name: name.to_owned(),
                base: None,
                drops_by: None,
                rules: Vec::new(),
            });
            self.chains.len() - 1
        });
        &mut self.chains[at]
    }

    fn rule(&mut self, inner: &Value, journal: &mut Journal) {
        let (table, chain) = (table_of(inner), text(inner, "chain"));
        let statements = inner
            .get("expr")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let comment = inner
            .get("comment")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let handle = inner.get("handle").and_then(Value::as_u64).unwrap_or(0);
        let place = format!("{} {} {chain}, handle {handle}", table.0, table.1);
        let origin = journal.add(place, &shown::rule(&statements, comment.as_deref()));
        if let Some(why) = elsewhere(&table.0) {
            journal.note(Kind::Needless, origin, why);
            return;
        }
        self.chain_of(&table, chain)
            .rules
            .push((origin, comment, statements));
    }

    /// The rules that packets of a family meet.
    fn ruleset(&self, family: Family) -> Ruleset {
        let mut whole = Table::new("nat");
        let mut bases: Vec<(i64, &str, Hook, ChainId)> = Vec::new();
        for (id, chain) in self.chains.iter().enumerate() {
            if let Some((kind, hook, prio)) = &chain.base
                && has(&chain.table.0, family)
            {
                bases.push((*prio, kind, *hook, id));
            }
            whole.chains.push(self.chain_for(chain, family));
        }
        bases.sort_by_key(|(prio, ..)| *prio);
        let mut other = whole.clone();
        other.name = "others".to_owned();
        for (_, kind, hook, id) in bases {
            let table = if kind == "nat" {
                &mut whole
            } else {
                &mut other
            };
            table.roots.entry(hook).or_default().push(id);
        }
        // A chain belongs to the table that packets come to it from; one that they do not come to, to the others.
        let hooks = [
            Hook::Prerouting,
            Hook::Input,
            Hook::Output,
            Hook::Postrouting,
        ];
        let nat: Vec<ChainId> = hooks
            .iter()
            .flat_map(|hook| whole.reachable(*hook))
            .collect();
        for id in 0..self.chains.len() {
            let emptied = if nat.contains(&id) {
                &mut other
            } else {
                &mut whole
            };
            emptied.chains[id].rules.clear();
            emptied.chains[id].drops_by = None;
        }
        let mut ruleset = Ruleset::new(family);
        ruleset.nat = whole;
        if other.rules().next().is_some()
            || other.chains.iter().any(|chain| chain.drops_by.is_some())
        {
            ruleset.others.push(other);
        }
        ruleset
    }

    fn chain_for(&self, raw: &RawChain, family: Family) -> Chain {
        let mut chain = Chain {
            name: raw.name.clone(),
            rules: Vec::new(),
            drops_by: raw.drops_by.filter(|_| has(&raw.table.0, family)),
        };
        if !has(&raw.table.0, family) {
            return chain;
        }
        let reader = Reader {
            sets: &self.sets,
            table: &raw.table,
        };
        for (origin, comment, statements) in &raw.rules {
            let bodies = reader.bodies(statements).into_iter();
            for body in bodies.filter(|body| body.is_of(family)) {
                chain.rules.push(Rule {
                    origin: *origin,
                    action: self.action(&body, &raw.table),
                    matches: body.matches,
                    comment: comment.clone(),
                });
            }
        }
        chain
    }

    fn action(&self, body: &Body, table: &TableName) -> Action {
        let find = |name: &str| {
            let mut chains = self.chains.iter();
            chains.position(|chain| chain.table == *table && chain.name == name)
        };
        match &body.verdict {
            None => Action::Aside("counter".to_owned()),
            Some(Verdict::Action(action)) => action.clone(),
            Some(Verdict::Jump(name)) => {
                find(name).map_or_else(|| Action::Other(format!("jump {name}")), Action::Jump)
            }
            Some(Verdict::Goto(name)) => {
                find(name).map_or_else(|| Action::Other(format!("goto {name}")), Action::Goto)
            }
        }
    }
}

/// Whether a table of a kind of families has packets of this one.
fn has(kind: &str, family: Family) -> bool {
    match kind {
        "inet" => true,
        "ip" => family == Family::V4,
        "ip6" => family == Family::V6,
        _ => false,
    }
}

/// Why a table is not about packets that are routed.
fn elsewhere(kind: &str) -> Option<&'static str> {
    match kind {
        "inet" | "ip" | "ip6" => None,
        "bridge" => Some("it is about what a bridge passes on, which is as before"),
        "arp" => Some("it is about ARP, which is as before"),
        _ => Some("it is about what a device takes in or sends, and stays"),
    }
}

fn hook(name: &str) -> Option<Hook> {
    match name {
        // In front of the routing decision, or behind it, whatever the layer.
        "prerouting" | "ingress" => Some(Hook::Prerouting),
        "input" => Some(Hook::Input),
        "forward" => Some(Hook::Forward),
        "output" => Some(Hook::Output),
        "postrouting" | "egress" => Some(Hook::Postrouting),
        _ => None,
    }
}
