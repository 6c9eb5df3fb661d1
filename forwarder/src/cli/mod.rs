//! The command line: arguments, exit codes, and where text goes.

mod args;
mod capture;
mod doctor;
mod events;
mod explain;
mod flows;
mod manual;
mod migrate;
mod output;
mod query;
mod run;
mod top;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::config::{self, ConfigErrors};
use crate::control::Request;
use crate::daemon;
use crate::report;
use args::{CheckArgs, Cli, Command};

const FAILED: u8 = 1;
/// What clap uses for arguments it refuses itself.
const USAGE: u8 = 2;

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Status(args) => query::status(&args),
        Command::Rules(args) => query::rules(&args),
        Command::Flows(args) => flows::flows(args),
        Command::Drops(args) => query::drops(&args),
        Command::Top(args) => top::top(&args),
        Command::Events(args) => events::events(args),
        Command::Who(args) => events::who(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Capture(args) => capture::capture(&args),
        Command::Import(command) => migrate::import(command),
        Command::Export(command) => migrate::export(command),
        Command::Reload(args) => {
            let sentence: String = query::ask(&args, Request::Reload)?;
            output::line(&sentence)
        }
        Command::Man(args) => manual::man(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Detach => output::line(&daemon::detach()?),
    }
}

fn check(args: &CheckArgs) -> Result<()> {
    let path = args
        .file
        .as_deref()
        .unwrap_or(Path::new(config::DEFAULT_PATH));
    let config = config::load(path)?;
    let rules = report::counted(config.rule_count(), "rule");
    let interfaces = report::counted(config.interfaces.len(), "interface");
    output::line(&format!(
        "{}: good, {rules} on {interfaces}",
        path.display()
    ))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    if error.is::<doctor::Unwell>() {
        return ExitCode::from(FAILED);
    }
    let Some(errors) = error.downcast_ref::<ConfigErrors>() else {
        output::error(&format!("error: {error:#}"));
        return ExitCode::from(FAILED);
    };
    output::error(&errors.render(output::colours()));
    ExitCode::from(if errors.is_usage() { USAGE } else { FAILED })
}
