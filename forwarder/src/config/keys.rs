//! Keys that several kinds of rules have.

use ipnet::IpNet;
use toml::de::DeValue;

use super::errors::Diagnostic;
use super::interface;
use super::model::Protocol;
use super::model_rules::{MssClamp, OnChange};
use super::prefix;
use super::scalar;
use super::span::Located;
use super::tree::{Number, Reader, Section, Value};

/// `name`; a rule without one is called after its kind and its `position` among them, from 1.
pub(super) fn name<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
    (kind, position): (&str, usize),
) -> Option<Located<String>> {
    let Some(value) = section.get("name") else {
        return Some(Located {
            value: format!("{kind}-{position}"),
            span: section.span,
        });
    };
    let token = value.token(reader, "a string")?;
    let text = token.text;
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.trim() == text
        && !text.contains(char::is_control);
    if !fits {
        let expected = "1 to 64 bytes without control characters and without blanks around them";
        reader.push(token.error(format!(
            "bad rule name {}: expected {expected}",
            token.quoted()
        )));
    }
    fits.then(|| Located {
        value: text.to_owned(),
        span: token.span(),
    })
}

/// `interface`; the outer `None` for one that could not be read.
pub(super) fn interface<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
) -> Option<Option<Located<String>>> {
    match section.get("interface") {
        None => Some(None),
        Some(value) => interface::name(reader, value).map(Some),
    }
}

/// `protocol`, one or a list.
pub(super) fn protocols<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
) -> Option<Vec<Protocol>> {
    let Some(value) = section.get("protocol") else {
        return Some(vec![Protocol::Tcp]);
    };
    let elements = value.elements();
    if elements.is_empty() {
        let message = "empty list of protocols, `[]`: expected `tcp`, `udp` or both";
        reader.push(Diagnostic::at(value.span, message));
    }
    let mut all = Vec::new();
    let mut good = !elements.is_empty();
    for element in elements {
        match scalar::word_value(reader, element, &Protocol::WORDS) {
            Some(protocol) if all.contains(&protocol) => {
                let message = format!("protocol `{}` twice: expected each once", protocol.name());
                reader.push(Diagnostic::at(element.span, message));
                good = false;
            }
            Some(protocol) => all.push(protocol),
            None => good = false,
        }
    }
    good.then_some(all)
}

/// Prefixes of clients. Where an empty list could mean everybody or nobody, `empty` says what to do instead of
/// writing one: a script that generated it meant one of them, and guessing wrong opens a mail relay or shuts it.
pub(super) fn prefixes<'a>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
    empty: Option<&str>,
) -> Option<Vec<Located<IpNet>>> {
    if let (DeValue::Array(elements), Some(instead)) = (value.node, empty)
        && elements.is_empty()
    {
        let message = "empty list of clients, `[]`: expected at least one prefix";
        reader.push(Diagnostic::at(value.span, message).help(instead));
        return None;
    }
    let expected = "a list of prefixes such as [\"198.51.100.0/24\"]";
    let elements = value.elements().into_iter();
    let prefixes: Vec<_> = elements
        .map(|element| {
            let token = element.token(reader, expected)?;
            Some(Located {
                value: reader.keep(prefix::parse(token))?,
                span: token.span(),
            })
        })
        .collect();
    // All or nothing, but only after every element has been read and its problems noted.
    prefixes.into_iter().collect()
}

/// `mode = "active" | "shadow"` of a rule: whether it only watches.
pub(super) fn shadow<'a>(reader: &mut Reader<'a>, section: &Section<'a>) -> Option<bool> {
    const WORDS: [(&str, bool); 2] = [("active", false), ("shadow", true)];
    match section.get("mode") {
        None => Some(false),
        Some(value) => scalar::word_value(reader, value, &WORDS),
    }
}

/// `mss-clamp = "auto" | BYTES`; the outer `None` for one that could not be read.
pub(super) fn mss_clamp<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
) -> Option<Option<Located<MssClamp>>> {
    let Some(value) = section.get("mss-clamp") else {
        return Some(None);
    };
    let (least, most) = (MssClamp::LEAST, MssClamp::MOST);
    let expected = format!("`auto` or an integer from {least} to {most}");
    let (clamp, token, problem) = match value.number_text(reader) {
        None => return value.wrong_type(reader, &expected),
        Some(Number::Text(token)) => {
            let clamp = (token.text == "auto").then_some(MssClamp::Auto);
            (clamp, token, format!("bad mss-clamp {}", token.quoted()))
        }
        Some(Number::Integer(number, token)) => {
            let bytes = u16::try_from(number).ok();
            let clamp = bytes.filter(|bytes| (least..=most).contains(bytes));
            let problem = format!("`mss-clamp` out of range, {}", token.quoted());
            (clamp.map(MssClamp::Bytes), token, problem)
        }
    };
    let span = token.span();
    if clamp.is_none() {
        let digits = value.is_string() && token.text.parse::<u16>().is_ok();
        let help = digits.then(|| "write it without quotes".to_owned());
        let found = token.error(format!("{problem}: expected {expected}"));
        reader.push(found.maybe_help(help));
    }
    clamp.map(|value| Some(Located { value, span }))
}

/// `on-change`; the outer `None` for one that could not be read.
pub(super) fn on_change<'a>(
    reader: &mut Reader<'a>,
    section: &Section<'a>,
) -> Option<Option<OnChange>> {
    match section.get("on-change") {
        None => Some(None),
        Some(value) => scalar::word_value(reader, value, &OnChange::WORDS).map(Some),
    }
}
