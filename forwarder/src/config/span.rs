//! Places in a source, and how a place is called in a message.

use std::ops::Range;
use std::sync::Arc;

/// A place in the source, in bytes.
///
/// Two spans always compare equal: a rule that only moved to another line is still the same rule, and that is
/// the question a reload asks when it compares two configurations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Span {}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub value: T,
    pub span: Span,
}

/// What a configuration was made from: a file, or the flags of one command line.
#[derive(Clone, Debug)]
pub struct Origin {
    name: Arc<str>,
    text: Arc<str>,
    /// Start of every line, so that a file of 65,536 rules and as many errors is not searched for each of them.
    lines: Arc<[usize]>,
    /// With flags: where each one's words stand in `text`.
    flags: Arc<[(Range<usize>, String)]>,
}

impl Origin {
    pub(super) fn file(name: &str, text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(newlines.map(|(at, _)| at + 1))
            .collect();
        Self {
            name: name.into(),
            text: text.into(),
            lines,
            flags: Arc::new([]),
        }
    }

    pub(super) fn command_line(text: &str, flags: Vec<(Range<usize>, String)>) -> Self {
        Self {
            flags: flags.into(),
            ..Self::file("the command line", text)
        }
    }

    /// The file's name as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_command_line(&self) -> bool {
        !self.flags.is_empty()
    }

    /// `FILE:LINE:COLUMN`, or the flag the place belongs to.
    pub(super) fn place(&self, span: Span) -> String {
        if let Some((_, flag)) = self
            .flags
            .iter()
            .find(|(words, _)| words.contains(&span.start))
        {
            return flag.clone();
        }
        if self.is_command_line() {
            return self.name.to_string();
        }
        let (line, column) = self.line_column(span.start);
        format!("{}:{line}:{column}", self.name)
    }

    /// Line and column of a byte offset, both from 1; columns count characters, as editors do.
    pub(super) fn line_column(&self, offset: usize) -> (usize, usize) {
        let line = self.line_index(offset);
        let start = self.lines[line];
        let before = self
            .text
            .get(start..offset.min(self.text.len()))
            .unwrap_or_default();
        // Editors do not show a byte order mark, so it is no column either.
        let before = before.strip_prefix('\u{feff}').unwrap_or(before);
        (line + 1, before.chars().count() + 1)
    }

    pub(super) fn line_index(&self, offset: usize) -> usize {
        self.lines
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// The line on which `offset` stands, without its end, and the offset at which it starts.
    pub(super) fn line_text(&self, offset: usize) -> (usize, &str) {
        let line = self.line_index(offset);
        let start = self.lines[line];
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        let text = self
            .text
            .get(start..end)
            .unwrap_or_default()
            .trim_end_matches(['\n', '\r']);
        match text.strip_prefix('\u{feff}') {
            Some(rest) => (start + '\u{feff}'.len_utf8(), rest),
            None => (start, text),
        }
    }
}
