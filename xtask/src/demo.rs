//! Placeholder: the demonstration is being written.

use anyhow::{Result, bail};
use clap::Args;

/// Show the forwarder at work.
#[derive(Args)]
pub struct DemoArgs {}

/// `cargo xtask demo`.
pub fn run(_args: DemoArgs) -> Result<()> {
    bail!("the demonstration is not there yet")
}
