//! Standard output and standard error.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Stays,
    /// The reader has seen enough: `forwarder flows | head`.
    Gone,
}

/// `text` as it is, which is not all yet.
pub(super) fn part(text: &str) -> Result<Reader> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        result => {
            result.context("cannot write to standard output")?;
            Ok(Reader::Stays)
        }
    }
}

/// `text` as it is.
pub(super) fn text(text: &str) -> Result<()> {
    part(text).map(|_| ())
}

/// `text` and a newline.
pub(super) fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// `message` and a newline, to standard error. If nobody can read that either, only the exit code is left.
pub(super) fn error(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Whether errors may be coloured: on a terminal, unless <https://no-color.org> is asked for.
pub(super) fn colours() -> bool {
    io::stderr().is_terminal() && wants_colours()
}

/// Whether <https://no-color.org> is not asked for.
pub(super) fn wants_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
