//! Values that are no addresses: words, numbers, durations, flags, paths.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::suggest::{did_you_mean, one_of};
use super::token::Token;
use super::tree::{Number, Reader, Value};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(40 * 24 * 60 * 60);

/// One of a fixed set of words.
pub(super) fn word<T: Copy>(
    reader: &mut Reader,
    token: Token,
    key: &str,
    words: &[(&'static str, T)],
) -> Option<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == token.text) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let message = format!("bad {key} {}: expected {}", token.quoted(), one_of(&known));
    reader.push(
        token
            .error(message)
            .maybe_help(did_you_mean(token.text, known)),
    );
    None
}

/// The same for a whole value.
pub(super) fn word_value<'a, T: Copy>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
    words: &[(&'static str, T)],
) -> Option<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let token = value.token(reader, &format!("a string, one of {}", one_of(&known)))?;
    word(reader, token, value.key, words)
}

pub(super) fn boolean<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<bool> {
    match value.node {
        DeValue::Boolean(flag) => Some(*flag),
        _ => value.wrong_type(reader, "`true` or `false`"),
    }
}

/// An integer in `range`.
pub(super) fn number<'a>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
    range: RangeInclusive<u32>,
) -> Option<u32> {
    let expected = format!("an integer from {} to {}", range.start(), range.end());
    let Some(Number::Integer(number, token)) = value.number_text(reader) else {
        return value.wrong_type(reader, &expected);
    };
    match u32::try_from(number) {
        Ok(number) if range.contains(&number) => Some(number),
        _ => {
            reader.push(token.error(format!(
                "`{}` out of range, {}: expected {expected}",
                value.key,
                token.quoted()
            )));
            None
        }
    }
}

/// A length of time as people write it: "5d", "1h 30m".
pub(super) fn duration<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<Duration> {
    duration_in(reader, value, (SHORTEST..=LONGEST, "1s to 40d"))
}

/// The same in a range, which is named as people write it.
pub(super) fn duration_in<'a>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
    (range, named): (RangeInclusive<Duration>, &str),
) -> Option<Duration> {
    let expected = "a duration such as \"30s\", \"4m\" or \"5d\"";
    let token = value.token(reader, expected)?;
    match humantime::parse_duration(token.text) {
        Ok(duration) if range.contains(&duration) => Some(duration),
        Ok(_) => {
            let message = format!(
                "`{}` out of range, {}: expected {named}",
                value.key,
                token.quoted()
            );
            reader.push(token.error(message));
            None
        }
        Err(error) => {
            let message = format!(
                "bad duration {}: expected {expected} ({error})",
                token.quoted()
            );
            reader.push(token.error(message));
            None
        }
    }
}

/// The name of a group. Whether there is one is asked where the file is used.
pub(super) fn group<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<String> {
    let expected = "the name of a group such as \"adm\"";
    let token = value.token(reader, expected)?;
    // What useradd(8) takes; numbers alone would be read as an identifier elsewhere.
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let text = token.text;
    let good = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(fits)
        && text.len() <= 32;
    if !good {
        reader.push(token.error(format!("bad group {}: expected {expected}", token.quoted())));
    }
    good.then(|| text.to_owned())
}

/// An absolute path of a file; `example` is one.
pub(super) fn file_path<'a>(
    reader: &mut Reader<'a>,
    value: Value<'a>,
    example: &str,
) -> Option<PathBuf> {
    let expected = format!("an absolute path such as \"{example}\"");
    let token = value.token(reader, &expected)?;
    let path = token.text;
    if path.starts_with('/') && !path.ends_with('/') && !path.contains('\0') {
        return Some(path.into());
    }
    reader.push(token.error(format!("bad path {}: expected {expected}", token.quoted())));
    None
}

/// An absolute path fit for a Unix socket.
pub(super) fn socket_path<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<PathBuf> {
    let expected = "an absolute path such as \"/run/forwarder.sock\"";
    let token = value.token(reader, expected)?;
    // sockaddr_un has 108 bytes for the path and its closing zero, unix(7).
    let problem = match token.text {
        path if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') => expected,
        path if path.len() > 107 => "at most 107 bytes",
        path => return Some(path.into()),
    };
    reader.push(token.error(format!(
        "bad socket path {}: expected {problem}",
        token.quoted()
    )));
    None
}
