//! `cargo xtask bench`: the forwarder and its rivals, measured side by side.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tests::netns::require_root;

use crate::{
    build,
    setup::{self, Scope},
};

/// Measure the forwarder and its rivals side by side.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct BenchArgs {
    /// Handed on; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// `cargo xtask bench`.
pub fn run(args: BenchArgs) -> Result<()> {
    let measures_nothing = |option: &String| {
        let option = option.split('=').next();
        matches!(option, Some("--help" | "-h" | "--show"))
    };
    if !args.options.iter().any(measures_nothing) {
        require_root()?;
        setup::ensure(Scope::Bench)?;
    }
    let forwarder = build::forwarder()?;
    let status = Command::new(build::bench()?)
        .args(args.options)
        .env("FORWARDER_BIN", forwarder)
        .status()
        .context("cannot run the bench")?;
    if !status.success() {
        bail!("the bench failed ({status})");
    }
    Ok(())
}
