//! Problems: collecting them, and handing them out as one error.

use std::fmt;

use super::span::{Origin, Span};

/// Which findings survive when the text is not even well-formed, see [`super::syntax`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text itself; about what stands there.
    Present,
    /// Something that does not stand where it should, or two things that do not go together: believable only
    /// if everything around it was understood.
    Whole,
}

/// One problem.
#[derive(Clone, Debug)]
pub(super) struct Diagnostic {
    /// `None`: the file as a whole, for example one that does not exist.
    pub span: Option<Span>,
    /// What is wrong and what was expected, in one line, with the offending text in backquotes.
    pub message: String,
    /// What to do about it, in one line.
    pub help: Option<String>,
    /// Lines shown below the source, for what does not fit in one.
    pub note: Option<&'static str>,
    pub kind: Kind,
}

impl Diagnostic {
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            message: message.into(),
            help: None,
            note: None,
            kind: Kind::Present,
        }
    }

    pub fn whole(span: Span, message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Whole,
            ..Self::at(span, message)
        }
    }

    pub fn file(message: impl Into<String>) -> Self {
        Self {
            span: None,
            ..Self::at(Span::default(), message)
        }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    pub fn note(mut self, note: &'static str) -> Self {
        self.note = Some(note);
        self
    }
}

/// All problems found so far.
pub(super) type Diagnostics = Vec<Diagnostic>;

/// Why a configuration was refused: every problem of it, never none.
///
/// [`Display`](fmt::Display) gives what a user sees without colours; [`ConfigErrors::render`] with them.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    pub(super) origin: Origin,
    pub(super) diagnostics: Diagnostics,
}

impl ConfigErrors {
    pub(super) fn new(origin: Origin, mut diagnostics: Diagnostics) -> Self {
        diagnostics.sort_by_key(|found| found.span.map_or(0, |span| span.start));
        Self {
            origin,
            diagnostics,
        }
    }

    /// One problem that only shows at run time, for example an interface this host does not have, reported
    /// like those that the file itself gives away.
    pub(super) fn from_runtime(
        origin: &Origin,
        span: Span,
        message: String,
        help: Option<String>,
    ) -> Self {
        let found = Diagnostic::at(span, message).maybe_help(help);
        Self {
            origin: origin.clone(),
            diagnostics: vec![found],
        }
    }

    pub(super) fn from_file(name: &str, found: Diagnostic) -> Self {
        Self {
            origin: Origin::file(name, ""),
            diagnostics: vec![found],
        }
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.diagnostics.len()
    }

    /// The first of them: what is wrong and what was expected, without its place.
    pub fn first(&self) -> &str {
        self.diagnostics
            .first()
            .map_or("", |found| found.message.as_str())
    }

    /// Whether the flags of a command line are to blame and not a file.
    pub fn is_usage(&self) -> bool {
        self.origin.is_command_line()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}
