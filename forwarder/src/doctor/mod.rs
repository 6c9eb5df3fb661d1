//! `forwarder doctor`: what on this host keeps a configuration from working, found without changing anything.
//!
//! [`facts`] are read from the host; a check in [`checks`] is a function of them and of the configuration, and names
//! for everything it finds why it matters and the command that mends it. What could not be looked at is said, too.

mod checks;
mod facts;
mod finding;
mod report;
mod text;

use std::path::Path;

use anyhow::Context as _;

pub use finding::{Check, Finding, Group, Mend, Severity};
pub use report::{Examined, Report, Unseen};
pub use text::Look;

use crate::config::Config;

/// What every check goes by.
struct Case<'a> {
    config: &'a Config,
    /// What the configuration is called on the command line, for commands that change it.
    file: &'a str,
    facts: &'a facts::Facts,
}

/// Looks at this host with `config`, which was read from `file`.
///
/// # Errors
/// The runtime or netlink cannot be had at all; everything else that fails is part of the report.
pub fn examine(config: &Config, file: &Path) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let (facts, unseen) = runtime.block_on(facts::gather(config))?;
    let file = file.display().to_string();
    let case = Case {
        config,
        file: &file,
        facts: &facts,
    };
    Ok(Report {
        config: file.clone(),
        kernel: facts.host.release.clone(),
        groups: checks::examine(&case),
        unseen,
    })
}

/// `word` as one word of a shell's command.
fn shell(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@+=,%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
