//! How problems look: one line that can be searched for, then the source line with a caret.

use std::fmt::Write;

use super::errors::{ConfigErrors, Diagnostic};
use super::span::{Origin, Span};

/// Source lines are cut to this many characters around the problem; generated files have very long lines.
const WIDTH: usize = 120;

const RED: &str = "\x1b[1;31m";
const BLUE: &str = "\x1b[1;34m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

impl ConfigErrors {
    /// All problems and a closing line, without a newline at the end; `colour` asks for terminal escapes.
    pub fn render(&self, colour: bool) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        for found in &self.diagnostics {
            paint.diagnostic(&mut out, &self.origin, found);
        }
        let errors = if self.count() == 1 { "error" } else { "errors" };
        let (count, name) = (self.count(), printable(self.origin.name()));
        let preposition = if self.is_usage() { "on" } else { "in" };
        out.push_str(&format!(
            "{count} {errors} {preposition} {name}; nothing was changed"
        ));
        out
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn in_colour(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("{colour}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    fn diagnostic(&self, out: &mut String, origin: &Origin, found: &Diagnostic) {
        let place = found
            .span
            .map_or_else(|| origin.name().to_owned(), |span| origin.place(span));
        let message = match &found.help {
            Some(help) => format!("{}; {help}", found.message),
            None => found.message.clone(),
        };
        let place = self.in_colour(BOLD, &printable(&place));
        let error = self.in_colour(RED, "error");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{place}: {error}: {}", printable(&message));
        if let Some(span) = found.span {
            self.excerpt(out, origin, span);
        }
        if let Some(note) = found.note {
            for line in note.lines() {
                let _ = writeln!(out, "      {line}");
            }
        }
    }

    fn excerpt(&self, out: &mut String, origin: &Origin, span: Span) {
        let (start, text) = origin.line_text(span.start);
        if text.trim().is_empty() {
            return;
        }
        let from = floor(text, span.start.saturating_sub(start));
        let to = floor(text, span.end.saturating_sub(start)).max(from);
        let before = text[..from].chars().count();
        let marked = text[from..to].chars().count().max(1);

        let skip = (before + marked).saturating_sub(WIDTH).min(before);
        let shown: String = text.chars().skip(skip).take(WIDTH).map(visible).collect();
        // Tabs stay tabs, so that the caret stands right whatever their width is.
        let pad = text.chars().skip(skip).take(before - skip);
        let pad: String = pad.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let carets = self.in_colour(RED, &"^".repeat(marked.min(WIDTH)));
        let bar = self.in_colour(BLUE, "|");
        let number = match origin.is_command_line() {
            true => String::new(),
            false => origin.line_column(span.start).0.to_string(),
        };
        let number = self.in_colour(BLUE, &format!("{number:>5}"));
        let _ = writeln!(out, "{number} {bar} {shown}\n      {bar} {pad}{carets}");
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// Control characters of a file are shown, not obeyed by the terminal.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' {
        '\u{fffd}'
    } else {
        c
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
