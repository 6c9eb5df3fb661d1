//! Text that is not TOML.

use std::collections::HashSet;

use toml::de::Error;

use super::errors::{Diagnostic, Diagnostics, Kind};
use super::span::{Origin, Span};
use super::token::quoted;

/// Joins the syntax errors of a text with what was found in the part that could be read.
///
/// A syntax error makes others appear that are not there: the rest of its line, and everything that seems to be
/// missing or to contradict something. Those are left out, so that all that is reported is real.
pub(super) fn merge(origin: &Origin, errors: &[Error], found: Diagnostics) -> Diagnostics {
    if errors.is_empty() {
        return found;
    }
    let mut broken = HashSet::new();
    let mut all = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or_default().into();
        if broken.insert(origin.line_index(start(span))) {
            all.push(diagnostic(origin, error.message(), span));
        }
    }
    let believable = |problem: &Diagnostic| {
        let on_broken_line = problem
            .span
            .is_some_and(|span| broken.contains(&origin.line_index(start(span))));
        problem.kind == Kind::Present && !on_broken_line
    };
    all.extend(found.into_iter().filter(believable));
    all
}

fn start(span: Span) -> usize {
    span.start
}

fn diagnostic(origin: &Origin, message: &str, span: Span) -> Diagnostic {
    let (line_start, line) = origin.line_text(span.start);
    let at = span.start.saturating_sub(line_start).min(line.len());
    let end = span.end.saturating_sub(line_start).clamp(at, line.len());
    // The parser points between two letters when something is missing; the text is then the line.
    if line.get(at..end).is_none_or(|text| text.trim().is_empty()) {
        return Diagnostic::at(
            span,
            format!("not valid TOML at {}: {message}", quoted(line.trim())),
        );
    }
    // It also points at the second dot of an unquoted address.
    let edge = |c: char| c.is_whitespace() || "=,[]{}\"'#".contains(c);
    let from = line[..at].rfind(edge).map_or(0, |edge| {
        edge + line[edge..].chars().next().map_or(0, char::len_utf8)
    });
    let to = end + line[end..].find(edge).unwrap_or(line.len() - end);
    let word = &line[from..to];
    let found = Diagnostic::at(
        (line_start + from..line_start + to).into(),
        format!("not valid TOML at {}: {message}", quoted(word)),
    );
    let unquoted =
        line[..from].trim_end().ends_with(['=', '[', ',']) && !word.contains(['"', '\'']);
    found.maybe_help(unquoted.then(|| format!("did you mean `\"{word}\"`?")))
}
