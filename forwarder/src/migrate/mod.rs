//! From netfilter's rules to a configuration, and back.
//!
//! Nothing is left out in silence: every rule that was read is in the configuration, or is listed with the reason why it
//! is not.

mod clients;
mod draft;
mod export;
mod iptables;
mod journal;
mod names;
mod nat;
mod nft;
mod render;
mod ruleset;
mod translate;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{self, Config};
pub use export::{iptables as export_iptables, nft as export_nft};
use journal::Journal;
pub use ruleset::Family;
use ruleset::Ruleset;

/// What rules do not say about the host that they are for.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Devices on which packets arrive.
    pub interfaces: Vec<String>,
    /// The host's own addresses.
    pub addresses: Vec<IpAddr>,
    /// Prefixes, and the devices that lead to them.
    pub routes: Vec<(IpNet, String)>,
}

/// A configuration, and what to know about it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The configuration's text, which `forwarder check` takes. It has all of `findings` in comments.
    pub text: String,
    /// The same as a configuration.
    pub config: Config,
    /// What was not translated, or not quite, one rule a line.
    pub findings: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is nothing in it that is a rule.
    #[error("there are no rules in it: expected what `{expected}` prints{instead}")]
    Nothing {
        /// The command to use.
        expected: &'static str,
        /// What else it looks like, and what to do with that.
        instead: &'static str,
    },
    /// It is not JSON.
    #[error(
        "this is not the JSON of a ruleset ({reason}): expected what `nft -j list ruleset` prints{instead}"
    )]
    NoJson {
        /// What the parser says.
        reason: String,
        /// What else it looks like, and what to do with that.
        instead: &'static str,
    },
    /// No rule could be translated.
    #[error("none of the rules can be translated, so there is no configuration to write")]
    Untranslatable {
        /// Why, one rule a line.
        findings: String,
    },
    /// The rules would take hours.
    #[error(
        "the rules call each other too often to be followed: give the chains that matter alone"
    )]
    TooMany,
    /// What was made of the rules is not a configuration.
    #[error("what the rules come to is refused: {reason}")]
    Refused {
        /// What `forwarder check` says.
        reason: String,
    },
}

/// Translates what `iptables-save` or `ip6tables-save` prints, or both one after the other.
///
/// # Errors
/// There is nothing that can be translated.
pub fn import_iptables(text: &str, hints: &Hints) -> Result<Imported, ImportError> {
    let mut journal = Journal::default();
    if text.trim_start().starts_with('{') {
        return Err(ImportError::Nothing {
            expected: "iptables-save",
            instead: "; for the JSON of nft use `forwarder import nft`",
        });
    }
    let rulesets = iptables::read(text, &mut journal);
    import(rulesets, hints, journal, "iptables-save")
}

/// Translates what `nft -j list ruleset` prints.
///
/// # Errors
/// There is nothing that can be translated.
pub fn import_nft(text: &str, hints: &Hints) -> Result<Imported, ImportError> {
    let mut journal = Journal::default();
    let rulesets = nft::read(text, &mut journal).map_err(|reason| ImportError::NoJson {
        reason,
        instead: match text.trim_start().chars().next() {
            Some('*' | '#' | ':' | '-') => {
                "; for the output of iptables-save use `forwarder import iptables-save`"
            }
            Some('t') => ", with `-j`",
            _ => "",
        },
    })?;
    import(rulesets, hints, journal, "nft -j list ruleset")
}

fn import(
    mut rulesets: Vec<Ruleset>,
    hints: &Hints,
    mut journal: Journal,
    expected: &'static str,
) -> Result<Imported, ImportError> {
    if journal.is_empty() {
        return Err(ImportError::Nothing {
            expected,
            instead: "",
        });
    }
    for ruleset in &mut rulesets {
        ruleset.nat.break_circles();
    }
    let draft = translate::translate(&rulesets, hints, &mut journal)
        .map_err(|translate::TooMany| ImportError::TooMany)?;
    let findings = render::Told(&journal).to_string();
    if draft.rule_count() == 0 {
        return Err(ImportError::Untranslatable { findings });
    }
    let heading = format!("Made by `forwarder import` from {expected}.");
    let text = render::configuration(&draft, &journal, &heading);
    match config::parse("import", &text) {
        Ok(config) => Ok(Imported {
            text,
            config,
            findings,
        }),
        Err(errors) => Err(ImportError::Refused {
            reason: errors.first().to_owned(),
        }),
    }
}
