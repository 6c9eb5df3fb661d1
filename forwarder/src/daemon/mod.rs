//! The daemon.

use std::path::PathBuf;

use crate::config::Config;

/// What `forwarder run` was told besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// The file a reload reads; `None` if the rule came from flags, and there is nothing to reload.
    pub config_path: Option<PathBuf>,
}

/// Forwards until it is told to stop.
///
/// # Errors
/// Whatever keeps the daemon from starting.
pub fn run(_config: Config, _options: RunOptions) -> anyhow::Result<()> {
    anyhow::bail!("the datapath is not part of this build")
}

/// Removes everything that a stopped daemon leaves working; returns what was removed, in one sentence.
///
/// # Errors
/// Whatever could not be removed.
pub fn detach() -> anyhow::Result<String> {
    anyhow::bail!("the datapath is not part of this build")
}
