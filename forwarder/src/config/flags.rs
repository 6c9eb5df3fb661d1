//! One rule without a file: the flags of `forwarder run --interface … --listen … --to …`.
//!
//! The flags become the same tree a file does, whose source is the command line itself, so that every check
//! and every message is the file's.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::check;
use super::errors::ConfigErrors;
use super::model::Config;
use super::raw::RawConfig;
use super::schema::{CONTROL, FORWARD, INTERFACE, Schema};
use super::span::Origin;
use super::tree::Reader;

/// Values as given on the command line, not yet looked at.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "named like the flags")]
pub struct Flags {
    pub interface: String,
    pub mode: Option<String>,
    pub listen: String,
    pub to: Vec<String>,
    pub source: Option<String>,
    pub protocol: Vec<String>,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub control_socket: Option<String>,
}

/// Validates flags like a file of one interface and one rule.
///
/// # Errors
/// All problems at once, each naming its flag.
pub fn from_flags(flags: &Flags) -> Result<Config, ConfigErrors> {
    let line = Line::new(flags);
    let origin = Origin::command_line(&line.text, line.places());
    let root = line.tree();
    let mut reader = Reader::new(&line.text);
    let raw = RawConfig::read(&mut reader, &root);
    check::whole_file(&mut reader, &raw, &origin);
    super::finish(origin, raw, reader.into_diagnostics())
}

struct Word<'a> {
    flag: &'static str,
    schema: &'static Schema,
    key: &'static str,
    value: &'a str,
    /// Where the flag and where the value stand in the line.
    at: (Range<usize>, Range<usize>),
}

/// The command line, put together again in a fixed order.
struct Line<'a> {
    text: String,
    words: Vec<Word<'a>>,
}

impl<'a> Line<'a> {
    fn new(flags: &'a Flags) -> Self {
        let mut line = Self {
            text: String::new(),
            words: Vec::new(),
        };
        line.add("--interface", (&INTERFACE, "name"), [&flags.interface]);
        line.add("--mode", (&INTERFACE, "mode"), &flags.mode);
        line.add("--protocol", (&FORWARD, "protocol"), &flags.protocol);
        line.add("--listen", (&FORWARD, "listen"), [&flags.listen]);
        line.add("--to", (&FORWARD, "to"), &flags.to);
        line.add("--source", (&FORWARD, "source"), &flags.source);
        line.add("--allow", (&FORWARD, "allow"), &flags.allow);
        line.add("--deny", (&FORWARD, "deny"), &flags.deny);
        line.add(
            "--control-socket",
            (&CONTROL, "socket"),
            &flags.control_socket,
        );
        line
    }

    fn add(
        &mut self,
        flag: &'static str,
        (schema, key): (&'static Schema, &'static str),
        values: impl IntoIterator<Item = &'a String>,
    ) {
        for value in values {
            let flag_at = self.append(flag);
            let value_at = self.append(value);
            self.words.push(Word {
                flag,
                schema,
                key,
                value,
                at: (flag_at, value_at),
            });
        }
    }

    fn append(&mut self, word: &str) -> Range<usize> {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(word);
        start..self.text.len()
    }

    fn places(&self) -> Vec<(Range<usize>, String)> {
        // To one past the value, so that an empty one belongs to its flag as well.
        self.words
            .iter()
            .map(|word| (word.at.0.start..word.at.1.end + 1, word.flag.to_owned()))
            .collect()
    }

    fn tree(&self) -> DeTable<'_> {
        let mut root = DeTable::new();
        for schema in [&INTERFACE, &FORWARD] {
            let mut list = DeArray::default();
            list.push(Spanned::new(0..0, DeValue::Table(self.table(schema))));
            root.insert(
                key(schema.key, 0..0),
                Spanned::new(0..0, DeValue::Array(list)),
            );
        }
        root.insert(
            key(CONTROL.key, 0..0),
            Spanned::new(0..0, DeValue::Table(self.table(&CONTROL))),
        );
        root
    }

    fn table(&self, schema: &Schema) -> DeTable<'_> {
        let mut table = DeTable::new();
        for name in schema.keys {
            let words: Vec<&Word> = self
                .words
                .iter()
                .filter(|word| word.schema.key == schema.key && word.key == *name)
                .collect();
            let value = |word: &&Word<'a>| {
                Spanned::new(
                    word.at.1.clone(),
                    DeValue::String(Cow::Borrowed(word.value)),
                )
            };
            let Some(first) = words.first() else { continue };
            let node = match words.len() {
                1 => value(first),
                _ => Spanned::new(
                    first.at.1.clone(),
                    DeValue::Array(words.iter().map(value).collect()),
                ),
            };
            table.insert(key(name, first.at.0.clone()), node);
        }
        table
    }
}

fn key(name: &'static str, at: Range<usize>) -> Spanned<Cow<'static, str>> {
    Spanned::new(at, Cow::Borrowed(name))
}
