//! The configuration file: text → spanned tree → [`raw`] values that each know where they stand → [`Config`].
//!
//! Nothing here stops at the first problem. Every stage notes what is wrong and goes on with what could be
//! read, so that one `forwarder check` shows all there is to repair; a [`Config`] exists only if nothing was.

mod address;
mod check;
mod check_masquerade;
mod check_output;
mod check_overlap;
mod check_rule;
mod errors;
mod file;
mod flags;
mod flow_log;
mod history;
mod interface;
mod keys;
mod listen;
mod masquerade;
mod metrics;
mod model;
mod model_rules;
mod model_settings;
mod original;
mod output;
mod ports;
mod prefix;
mod raw;
mod render;
mod rule;
mod scalar;
mod schema;
mod settings;
mod source;
mod span;
mod suggest;
mod syntax;
mod targets;
mod token;
mod tree;

#[cfg(test)]
mod tests;

use std::path::Path;

use toml::de::DeTable;

pub use errors::ConfigErrors;
pub use flags::{Flags, from_flags};
pub use model::{
    Backend, BackendPort, Config, Interface, Listen, Mode, PortRange, Protocol, ProtocolPorts,
    Source,
};
pub use model_rules::{Filtering, Masquerade, MssClamp, OnChange, Output, Rule, Target};
pub use model_settings::{
    Control, FlowLog, Format, History, Level, Limits, Log, Metrics, OriginalDestination, Timeouts,
};
pub use span::{Origin, Span};

/// Where the daemon looks when no file is named.
pub const DEFAULT_PATH: &str = "/etc/forwarder/forwarder.toml";
/// Where the daemon answers `forwarder status` and its kin unless the file says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/forwarder.sock";

/// Reads and validates the file at `path`.
///
/// # Errors
/// All problems of the file at once; a file that cannot be read is one problem.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let (name, text) = file::read(path)?;
    parse(&name, &text)
}

/// Validates `text`, calling it `name` in messages.
///
/// # Errors
/// All problems of the text at once, in the order in which they stand in it.
pub fn parse(name: &str, text: &str) -> Result<Config, ConfigErrors> {
    let origin = Origin::file(name, text);
    let (tree, syntax_errors) = DeTable::parse_recoverable(text);
    let mut reader = tree::Reader::new(text);
    let raw = raw::RawConfig::read(&mut reader, tree.get_ref());
    check::whole_file(&mut reader, &raw, &origin);
    let diagnostics = syntax::merge(&origin, &syntax_errors, reader.into_diagnostics());
    finish(origin, raw, diagnostics)
}

fn finish(
    origin: Origin,
    raw: raw::RawConfig,
    diagnostics: errors::Diagnostics,
) -> Result<Config, ConfigErrors> {
    match raw.build(&origin) {
        Some(config) if diagnostics.is_empty() => Ok(config),
        _ => Err(ConfigErrors::new(origin, diagnostics)),
    }
}
