//! `[[interface]]`.

use super::model::{Interface, Mode};
use super::scalar;
use super::span::Located;
use super::token::Token;
use super::tree::{Reader, Section, Value};

/// An interface as it was written: parts that could not be read are `None`.
#[derive(Debug)]
pub(super) struct RawInterface {
    pub name: Option<Located<String>>,
    mode: Option<Mode>,
    optional: Option<bool>,
}

impl RawInterface {
    pub fn read<'a>(reader: &mut Reader<'a>, section: Section<'a>) -> Self {
        let name = section
            .require(reader, "name")
            .and_then(|value| name(reader, value));
        let mode = match section.get("mode") {
            None => Some(Mode::default()),
            Some(value) => scalar::word_value(reader, value, &Mode::WORDS),
        };
        let optional = match section.get("optional") {
            None => Some(false),
            Some(value) => scalar::boolean(reader, value),
        };
        Self {
            name,
            mode,
            optional,
        }
    }

    pub fn build(self) -> Option<Interface> {
        let name = self.name?;
        Some(Interface {
            name: name.value,
            mode: self.mode?,
            optional: self.optional?,
            span: name.span,
        })
    }
}

/// A device's name, also that of a rule's `interface`.
pub(super) fn name<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Located<String>> {
    let token = value.token(reader, "a string such as \"eth0\"")?;
    if let Some(expected) = unfit(token) {
        reader.push(token.error(format!(
            "bad interface name {}: expected {expected}",
            token.quoted()
        )));
        return None;
    }
    Some(Located {
        value: token.text.to_owned(),
        span: token.span(),
    })
}

/// What the kernel's `dev_valid_name` refuses.
fn unfit(token: Token) -> Option<&'static str> {
    let unfit = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    match token.text {
        "" | "." | ".." => Some("the name of a device, such as `eth0`"),
        text if text.len() > 15 => Some("at most 15 bytes"),
        text if text.contains(unfit) => Some("no blanks, slashes or colons"),
        _ => None,
    }
}
