//! `forwarder run`: from a file, or from flags.

use std::path::PathBuf;

use anyhow::Result;

use super::args::{RuleArgs, RunArgs};
use crate::config::{self, Flags};
use crate::daemon::{self, RunOptions};

pub(super) fn run(args: Box<RunArgs>) -> Result<()> {
    let RunArgs {
        config,
        replace,
        rule,
    } = *args;
    if let Some(rule) = rule {
        let config = config::from_flags(&flags(rule))?;
        return daemon::run(
            config,
            RunOptions {
                config_path: None,
                replace,
            },
        );
    }
    let path = config.unwrap_or_else(|| PathBuf::from(config::DEFAULT_PATH));
    let config = config::load(&path)?;
    daemon::run(
        config,
        RunOptions {
            config_path: Some(path),
            replace,
        },
    )
}

pub(super) fn flags(rule: RuleArgs) -> Flags {
    Flags {
        interface: rule.interface,
        mode: rule.mode,
        listen: rule.listen,
        to: rule.to,
        source: rule.source,
        protocol: rule.protocol,
        allow: rule.allow,
        deny: rule.deny,
        control_socket: rule.control_socket,
    }
}
