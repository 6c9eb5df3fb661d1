//! One rule of nft's: statements to conditions and an action.

use serde_json::Value;

use super::condition::{self, All, Field};
use super::nat;
use super::shown;
use super::values::{Sets, TableName};
use crate::migrate::ruleset::{Action, Clamp, Family, Match};

/// What a rule comes to: several of these if it looks something up in a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub families: Vec<Family>,
    pub matches: Vec<Match>,
    pub verdict: Option<Verdict>,
}

#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Action(Action),
    Jump(String),
    Goto(String),
}

impl Body {
    pub fn require(&mut self, all: &All) {
        self.matches.extend(all.matches.iter().cloned());
        self.families.extend(&all.families);
    }

    fn act(&mut self, action: Action) {
        self.verdict.get_or_insert(Verdict::Action(action));
    }

    /// Whether packets of this family can meet it.
    pub fn is_of(&self, family: Family) -> bool {
        self.families.iter().all(|one| *one == family)
    }
}

/// Reads rules of one table.
pub(super) struct Reader<'a> {
    pub sets: &'a Sets,
    pub table: &'a TableName,
}

impl Reader<'_> {
    /// Everything that the statements come to; what cannot be read becomes a condition that no configuration has.
    pub fn bodies(&self, statements: &[Value]) -> Vec<Body> {
        let mut bodies = vec![Body::default()];
        let mut asides = Vec::new();
        for statement in statements {
            bodies = self.apply(statement, bodies, &mut asides);
        }
        let mut all = Vec::new();
        for mut body in bodies {
            for word in &asides {
                // A rule that does something else besides is as good as two.
                let aside = Action::Aside(word.clone());
                match body.verdict {
                    Some(_) => all.push(Body {
                        verdict: Some(Verdict::Action(aside)),
                        ..body.clone()
                    }),
                    None => body.act(aside),
                }
            }
            body.act(Action::Aside("counter".to_owned()));
            all.push(body);
        }
        all
    }

    fn apply(&self, statement: &Value, bodies: Vec<Body>, asides: &mut Vec<String>) -> Vec<Body> {
        let text = shown::statement(statement);
        let Some((name, inner)) = statement
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            return each(bodies, |body| body.matches.push(Match::Other(text.clone())));
        };
        let verdict = verdict(name, inner);
        match name.as_str() {
            "match" => match self.condition(inner) {
                Some(alternatives) => multiply(&bodies, &alternatives),
                None => each(bodies, |body| body.matches.push(Match::Other(text.clone()))),
            },
            "vmap" => match self.verdict_map(inner) {
                Some(alternatives) => {
                    let expand = |body: &Body| {
                        alternatives
                            .iter()
                            .map(|(all, verdict)| {
                                let mut body = body.clone();
                                body.require(all);
                                body.verdict.get_or_insert(verdict.clone());
                                body
                            })
                            .collect::<Vec<_>>()
                    };
                    bodies.iter().flat_map(expand).collect()
                }
                None => each(bodies, |body| body.act(Action::Other(text.clone()))),
            },
            "dnat" | "snat" | "redirect" | "masquerade" => match nat::read(self, name, inner) {
                Some(alternatives) => {
                    let expand = |body: &Body| {
                        alternatives
                            .iter()
                            .map(|(all, nat)| {
                                let mut body = body.clone();
                                body.require(all);
                                body.act(Action::Nat(nat.clone()));
                                body
                            })
                            .collect::<Vec<_>>()
                    };
                    bodies.iter().flat_map(expand).collect()
                }
                None => each(bodies, |body| body.act(Action::Other(text.clone()))),
            },
            "counter" | "comment" | "continue" | "last" => bodies,
            "mangle" => each(bodies, |body| body.act(mangle(inner, &text))),
            "xt" => compat(inner, &text, bodies),
            _ if verdict.is_some() => each(bodies, |body| {
                body.verdict = body.verdict.take().or(verdict.clone())
            }),
            _ if ASIDE.contains(&name.as_str()) => {
                asides.push(text);
                bodies
            }
            "limit" | "quota" | "ct count" => {
                each(bodies, |body| body.matches.push(Match::Other(text.clone())))
            }
            _ => each(bodies, |body| body.act(Action::Other(text.clone()))),
        }
    }

    /// What a comparison says, as alternatives.
    fn condition(&self, inner: &Value) -> Option<Vec<All>> {
        let op = inner.get("op").and_then(Value::as_str).unwrap_or("==");
        let elements = self.sets.elements(self.table, inner.get("right")?)?;
        self.compare(inner.get("left")?, op, &elements)
    }

    /// What it means that `left` is one of `elements`, or is not, as alternatives.
    pub fn compare(&self, left: &Value, op: &str, elements: &[Value]) -> Option<Vec<All>> {
        if let Some(parts) = left.get("concat").and_then(Value::as_array) {
            let one = |element: &Value| {
                let values = element.get("concat")?.as_array()?;
                if values.len() != parts.len() {
                    return None;
                }
                let mut sum = All::default();
                for (part, value) in parts.iter().zip(values) {
                    let all =
                        condition::read(condition::field(part)?, op, std::slice::from_ref(value))?;
                    sum.matches.extend(all.matches);
                    sum.families.extend(all.families);
                }
                Some(sum)
            };
            return (op != "!=")
                .then(|| elements.iter().map(one).collect())
                .flatten();
        }
        let field = condition::field(left)?;
        match field {
            // A condition is about one device.
            Field::In | Field::Out if elements.len() > 1 => {
                let each: Option<Vec<All>> = elements
                    .iter()
                    .map(|one| condition::read(field, op, std::slice::from_ref(one)))
                    .collect();
                let each = each?;
                if op != "!=" {
                    return Some(each);
                }
                let matches = each.into_iter().flat_map(|all| all.matches).collect();
                Some(vec![All {
                    matches,
                    families: Vec::new(),
                }])
            }
            _ => Some(vec![condition::read(field, op, elements)?]),
        }
    }

    fn verdict_map(&self, inner: &Value) -> Option<Vec<(All, Verdict)>> {
        let mut found = Vec::new();
        for element in self.sets.elements(self.table, inner.get("data")?)? {
            let [key, value] = element.as_array()?.as_slice() else {
                return None;
            };
            let (name, target) = value.as_object()?.iter().next()?;
            let verdict = verdict(name, target)?;
            for all in self.compare(inner.get("key")?, "==", std::slice::from_ref(key))? {
                found.push((all, verdict.clone()));
            }
        }
        Some(found)
    }
}

/// Statements after which the next one is executed.
const ASIDE: [&str; 10] = [
    "log",
    "notrack",
    "ct helper",
    "ct timeout",
    "ct expectation",
    "set",
    "map",
    "meter",
    "flow",
    "dup",
];

fn verdict(name: &str, inner: &Value) -> Option<Verdict> {
    let target = || {
        inner
            .get("target")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Some(match name {
        "accept" => Verdict::Action(Action::Accept),
        "return" => Verdict::Action(Action::Return),
        "drop" | "reject" => Verdict::Action(Action::Drop(name.to_owned())),
        "jump" => Verdict::Jump(target()?),
        "goto" => Verdict::Goto(target()?),
        _ => return None,
    })
}

fn mangle(inner: &Value, text: &str) -> Action {
    let option = inner
        .pointer("/key/tcp option/name")
        .and_then(Value::as_str);
    let value = inner.get("value");
    let mtu = value
        .and_then(|value| value.pointer("/rt/key"))
        .and_then(Value::as_str);
    let bytes = value
        .and_then(Value::as_u64)
        .and_then(|bytes| bytes.try_into().ok());
    match (option, mtu, bytes) {
        (Some("maxseg"), Some("mtu"), _) => Action::Clamp(Clamp::Path),
        (Some("maxseg"), _, Some(bytes)) => Action::Clamp(Clamp::Bytes(bytes)),
        _ => Action::Aside(text.to_owned()),
    }
}

/// What iptables has put there, of which nft shows the name alone.
fn compat(inner: &Value, text: &str, bodies: Vec<Body>) -> Vec<Body> {
    let is = |key: &str, value: &str| inner.get(key).and_then(Value::as_str) == Some(value);
    let what = format!("{text}, of which only iptables-save shows what it means,");
    match () {
        () if is("name", "comment") => bodies,
        () if is("type", "match") => {
            each(bodies, |body| body.matches.push(Match::Other(what.clone())))
        }
        () => each(bodies, |body| body.act(Action::Other(what.clone()))),
    }
}

fn each(mut bodies: Vec<Body>, change: impl Fn(&mut Body)) -> Vec<Body> {
    bodies.iter_mut().for_each(change);
    bodies
}

/// Every body with every alternative.
fn multiply(bodies: &[Body], alternatives: &[All]) -> Vec<Body> {
    let with = |body: &Body| {
        alternatives
            .iter()
            .map(|all| {
                let mut body = body.clone();
                body.require(all);
                body
            })
            .collect::<Vec<_>>()
    };
    bodies.iter().flat_map(with).collect()
}
