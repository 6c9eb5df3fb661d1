//! Asking the daemon: a Unix socket, one line of JSON there and one back.
//!
//! Request: `{"command":"status"}`. Answer: `{"ok":…}` or `{"error":"…"}`. Then the daemon closes.
//!
//! Events go on for as long as the client stays: `{"command":"events","events":{…}}` is answered with a line of some, or
//! of none after a second without.
//!
//! Flows may be millions: `{"command":"flows","query":{…}}` is answered with lines of some flows each, and one of none
//! as the last.

pub mod client;
mod listener;
mod query;
pub mod server;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::events::EventQuery;
use crate::explain::ExplainQuery;
use crate::history::WhoQuery;

pub use listener::Listener;
pub use query::{FlowOrder, FlowProtocol, FlowQuery, prefix};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Answered with a [`crate::report::Status`].
    Status,
    /// Answered with [`crate::report::RuleReport`]s.
    Rules,
    /// Answered with [`crate::report::FlowReport`]s, those that a [`FlowQuery`] picks, on several lines.
    Flows,
    /// Answered with [`crate::report::DropReport`]s.
    Drops,
    /// Answered with [`Heard`](crate::events::Heard), those that an [`EventQuery`] picks, on lines without end.
    Events,
    /// Answered with a [`crate::history::WhoReport`] about a [`WhoQuery`].
    Who,
    /// Answered with a sentence, after the new configuration is in force.
    Reload,
    /// Answered with a [`CaptureGrant`], which holds for as long as the asking end keeps the connection open.
    Capture,
    /// Answered with a [`crate::report::Explanation`] of a packet that an [`ExplainQuery`] describes.
    Explain,
}

/// Which packets [`Request::Capture`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CaptureQuery {
    /// Those of one rule; none: those of every rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How many bytes of each.
    pub length: u32,
}

/// Where copies of packets are to be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureGrant {
    /// The directory of the forwarder's pins.
    pub directory: PathBuf,
}

/// One request line. A field this version does not know would change the meaning, so it is refused.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestLine {
    pub command: Request,
    /// For [`Request::Flows`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<FlowQuery>,
    /// For [`Request::Capture`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureQuery>,
    /// For [`Request::Explain`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<ExplainQuery>,
    /// For [`Request::Events`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventQuery>,
    /// For [`Request::Who`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<WhoQuery>,
}

impl RequestLine {
    /// A request without a query.
    pub fn of(command: Request) -> Self {
        Self {
            command,
            query: None,
            capture: None,
            explain: None,
            events: None,
            who: None,
        }
    }

    /// A query that the command does not take.
    fn misplaced(&self) -> Option<&'static str> {
        let command = self.command;
        let misplaced = [
            (self.query.is_some() && command != Request::Flows)
                .then_some("only `flows` takes a query"),
            (self.capture.is_some() && command != Request::Capture)
                .then_some("only `capture` takes what to capture"),
            (self.explain.is_some() && command != Request::Explain)
                .then_some("only `explain` takes a packet"),
            (self.events.is_some() && command != Request::Events)
                .then_some("only `events` takes `events`"),
            (self.who.is_some() && command != Request::Who).then_some("only `who` takes `who`"),
        ];
        misplaced.into_iter().flatten().next()
    }
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer<T> {
    Ok(T),
    Error(String),
}

/// Why a socket could not be opened or asked. Each says what to do next.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ControlError {
    #[error("no forwarder is running on {}: start it with `forwarder run`", .0.display())]
    NotRunning(PathBuf),
    #[error("no permission to use {}: run this with sudo", .0.display())]
    Permission(PathBuf),
    #[error("a forwarder is already running on {}: stop it first, or give this one another socket", .0.display())]
    InUse(PathBuf),
    #[error("{} exists and is not a socket: remove it, or configure another socket", .0.display())]
    NotASocket(PathBuf),
    #[error(
        "there is no group `{0}` on this host: make it with `groupadd --system {0}`, or name another one in `[control]`"
    )]
    NoGroup(String),
    #[error("cannot use the socket {}: {error}; its directory must exist and be writable", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("the forwarder on {} did not answer in time: see its log", .0.display())]
    Timeout(PathBuf),
    #[error("the forwarder on {} gave an answer this version does not understand ({reason}): restart it after an upgrade", path.display())]
    Answer { path: PathBuf, reason: String },
    #[error("{0}")]
    Refused(String),
}
