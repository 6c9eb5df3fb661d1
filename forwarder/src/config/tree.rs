//! Typed access to the spanned tree: every wrong type, unknown and missing key is noted, none ends the reading.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{Diagnostic, Diagnostics};
use super::schema::{self, Schema};
use super::span::Span;
use super::suggest::{did_you_mean, nearest, one_of};
use super::token::{Token, quoted};

/// The text that is read and the problems found so far.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a str,
    diagnostics: Diagnostics,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            diagnostics: Vec::new(),
        }
    }

    pub fn push(&mut self, found: Diagnostic) {
        self.diagnostics.push(found);
    }

    /// Notes the problem, if it is one.
    pub fn keep<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|found| self.push(found)).ok()
    }

    pub fn into_diagnostics(self) -> Diagnostics {
        self.diagnostics
    }

    /// The source at `span`, as it is written there.
    pub fn source(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// A value and the key it was given for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub key: &'static str,
    pub node: &'a DeValue<'a>,
    pub span: Span,
}

impl<'a> Value<'a> {
    pub fn new(key: &'static str, node: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            key,
            node: node.get_ref(),
            span: node.span().into(),
        }
    }

    pub fn token(&self, reader: &mut Reader<'a>, expected: &str) -> Option<Token<'a>> {
        match self.node {
            DeValue::String(text) => Some(Token::new(reader.text, self.span, text)),
            _ => self.wrong_type(reader, expected),
        }
    }

    /// A string as such, or the digits of an integer, for keys where both are natural. The digits are the
    /// decimal ones, whatever base the file uses.
    pub fn number_text(&self, reader: &Reader<'a>) -> Option<Number<'a>> {
        match self.node {
            DeValue::String(text) => Some(Number::Text(Token::new(reader.text, self.span, text))),
            DeValue::Integer(digits) => {
                let value =
                    i128::from_str_radix(digits.as_str(), digits.radix()).unwrap_or(i128::MAX);
                Some(Number::Integer(
                    value,
                    Token::new(reader.text, self.span, reader.source(self.span)),
                ))
            }
            _ => None,
        }
    }

    pub fn is_string(&self) -> bool {
        matches!(self.node, DeValue::String(_))
    }

    /// The elements of an array; a value that is none counts as an array of one.
    pub fn elements(&self) -> Vec<Self> {
        match self.node {
            DeValue::Array(elements) => elements
                .iter()
                .map(|node| Value::new(self.key, node))
                .collect(),
            _ => vec![*self],
        }
    }

    pub fn wrong_type<T>(&self, reader: &mut Reader<'a>, expected: &str) -> Option<T> {
        let (found, text) = (type_name(self.node), quoted(reader.source(self.span)));
        let message = format!("`{}` is {found}, {text}: expected {expected}", self.key);
        reader.push(Diagnostic::at(self.span, message));
        None
    }
}

/// See [`Value::number_text`].
pub(super) enum Number<'a> {
    Text(Token<'a>),
    Integer(i128, Token<'a>),
}

fn type_name(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// One table with a fixed set of keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    schema: &'static Schema,
    /// Its header, or all of it if it is written inline.
    pub span: Span,
}

impl<'a> Section<'a> {
    /// The one table of this name, if there is one.
    pub fn single(
        reader: &mut Reader<'a>,
        root: &'a DeTable<'a>,
        schema: &'static Schema,
    ) -> Option<Self> {
        let value = Value::new(schema.key, root.get(schema.key)?);
        match value.node {
            DeValue::Table(table) => Some(Self::open(reader, table, schema, value.span)),
            _ => value.wrong_type(reader, &format!("one table, written `{}`", schema.header)),
        }
    }

    /// All tables of this name, in the file's order.
    pub fn list(
        reader: &mut Reader<'a>,
        root: &'a DeTable<'a>,
        schema: &'static Schema,
    ) -> Vec<Self> {
        let Some(node) = root.get(schema.key) else {
            return Vec::new();
        };
        let value = Value::new(schema.key, node);
        let expected = format!("a list of tables, each written `{}`", schema.header);
        if !matches!(value.node, DeValue::Array(_)) {
            value.wrong_type::<()>(reader, &expected);
            return Vec::new();
        }
        if matches!(value.node, DeValue::Array(elements) if elements.is_empty()) {
            let message = format!("empty list, `{} = []`: expected {expected}", schema.key);
            reader.push(Diagnostic::at(value.span, message));
        }
        let tables = value
            .elements()
            .into_iter()
            .filter_map(|element| match element.node {
                DeValue::Table(table) => Some(Self::open(reader, table, schema, element.span)),
                _ => element.wrong_type(reader, &expected),
            });
        tables.collect()
    }

    fn open(
        reader: &mut Reader<'a>,
        table: &'a DeTable<'a>,
        schema: &'static Schema,
        span: Span,
    ) -> Self {
        for (key, _) in table {
            if !schema.keys.contains(&&**key.get_ref()) {
                reader.push(unknown_key(key, schema.keys, schema.header));
            }
        }
        Self {
            table,
            schema,
            span,
        }
    }

    pub fn get(&self, key: &'static str) -> Option<Value<'a>> {
        debug_assert!(
            self.schema.keys.contains(&key),
            "`{key}` is missing from the schema"
        );
        self.table.get(key).map(|node| Value::new(key, node))
    }

    pub fn require(&self, reader: &mut Reader<'a>, key: &'static str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() && !self.mistyped(key) {
            let message = format!(
                "{} without `{key}`: expected one",
                quoted(self.schema.header)
            );
            reader.push(Diagnostic::whole(self.span, message));
        }
        value
    }

    /// Whether one of the unknown keys is reported as probably meant to be this one. Saying that it is missing as
    /// well would count one slip twice.
    fn mistyped(&self, key: &str) -> bool {
        let known = self.schema.keys;
        let unknown = self
            .table
            .iter()
            .map(|(key, _)| &**key.get_ref())
            .filter(|key| !known.contains(key));
        unknown
            .into_iter()
            .any(|unknown| nearest(unknown, known.iter().copied()) == Some(key))
    }
}

/// `place` is the header of the table the key stands in, empty at the top level.
pub(super) fn unknown_key(
    key: &Spanned<std::borrow::Cow<str>>,
    known: &[&str],
    place: &str,
) -> Diagnostic {
    let text = &**key.get_ref();
    let of = if place.is_empty() {
        String::new()
    } else {
        format!(" in `{place}`")
    };
    let message = format!(
        "unknown key {}{of}: expected {}",
        quoted(text),
        one_of(known)
    );
    let elsewhere = || {
        let home = schema::homes(text).find(|home| home.header != place)?;
        Some(format!("`{text}` belongs in `{}`", home.header))
    };
    Diagnostic::at(key.span().into(), message)
        .maybe_help(did_you_mean(text, known.iter().copied()).or_else(elsewhere))
}
