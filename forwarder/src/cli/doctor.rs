//! `forwarder doctor`.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::Result;

use super::args::DoctorArgs;
use super::output;
use crate::config;
use crate::doctor::{self, Look};

/// Something does not work, and standard output says what.
#[derive(Debug, thiserror::Error)]
#[error("something keeps forwarding from working here")]
pub(super) struct Unwell;

/// Columns where there is no terminal.
const WIDTH: usize = 100;

pub(super) fn doctor(args: &DoctorArgs) -> Result<()> {
    let path = args
        .file
        .as_deref()
        .unwrap_or(Path::new(config::DEFAULT_PATH));
    let config = config::load(path)?;
    let report = doctor::examine(&config, path)?;
    match args.json {
        true => output::line(&serde_json::to_string_pretty(&report)?)?,
        false => output::text(&report.render(look()))?,
    }
    match report.is_bad() {
        true => Err(Unwell.into()),
        false => Ok(()),
    }
}

fn look() -> Look {
    let size = terminal_size::terminal_size();
    Look {
        width: size.map_or(WIDTH, |(width, _)| usize::from(width.0).min(120)),
        colours: io::stdout().is_terminal() && output::wants_colours(),
    }
}
