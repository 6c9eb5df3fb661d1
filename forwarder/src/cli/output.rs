//! Standard output and standard error.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

/// `text` as it is.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader has seen enough: `forwarder flows | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
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
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
