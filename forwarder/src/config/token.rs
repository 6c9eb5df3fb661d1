//! A piece of text that knows where in the source it stands.

use super::errors::Diagnostic;
use super::span::Span;

/// Offending text longer than this is cut in messages.
const SHOWN: usize = 60;

/// Text from the source, or a part of it. The parsers cut tokens and not strings, so that a problem points at
/// the port of `192.0.2.1:0` and not just at the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub text: &'a str,
    /// Where `text` starts, if it stands in the source letter by letter; escapes in a string prevent that.
    start: Option<usize>,
    /// The whole value.
    whole: Span,
}

impl<'a> Token<'a> {
    /// `text` is what the value at `whole` means, `source` what it was read from.
    pub fn new(source: &str, whole: Span, text: &'a str) -> Self {
        let literal = source.get(whole.start..whole.end).unwrap_or_default();
        let quotes = if literal.starts_with("\"\"\"") || literal.starts_with("'''") {
            3
        } else {
            1
        };
        let inside = |skip: usize| literal.get(skip..literal.len().saturating_sub(skip));
        let start = [0, quotes]
            .into_iter()
            .find(|skip| inside(*skip) == Some(text));
        Self {
            text,
            start: start.map(|skip| whole.start + skip),
            whole,
        }
    }

    pub fn span(&self) -> Span {
        match self.start {
            Some(start) if !self.text.is_empty() => (start..start + self.text.len()).into(),
            _ => self.whole,
        }
    }

    /// The text in backquotes, cut if it is very long.
    pub fn quoted(&self) -> String {
        quoted(self.text)
    }

    pub fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::at(self.span(), message)
    }

    pub fn split_at(&self, at: usize) -> (Self, Self) {
        let (left, right) = self.text.split_at(at);
        let start = self.start.map(|start| start + at);
        (
            Self {
                text: left,
                ..*self
            },
            Self {
                text: right,
                start,
                ..*self
            },
        )
    }

    pub fn split_once(&self, separator: char) -> Option<(Self, Self)> {
        self.text
            .find(separator)
            .map(|at| self.around(at, separator))
    }

    pub fn rsplit_once(&self, separator: char) -> Option<(Self, Self)> {
        self.text
            .rfind(separator)
            .map(|at| self.around(at, separator))
    }

    fn around(&self, at: usize, separator: char) -> (Self, Self) {
        let (left, right) = self.split_at(at);
        (left, right.split_at(separator.len_utf8()).1)
    }

    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        self.text
            .starts_with(prefix)
            .then(|| self.split_at(prefix.len()).1)
    }
}

/// `text` in backquotes, cut if it is very long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
