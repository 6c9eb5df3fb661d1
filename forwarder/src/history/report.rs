//! `forwarder who`: one line for each flow that is meant.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::{events::local, report::Render};

/// What is kept of flows that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// Nothing: there is no `[history]`.
    #[default]
    Nothing,
    /// The history was asked.
    History,
    /// There is a history, but it cannot be used now.
    Unusable,
}

/// Who was behind a translated connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoReport {
    /// By time.
    pub flows: Vec<Record>,
    /// Older flows that are not among them, because there are so many.
    pub left_out: u64,
    /// Whether flows that are gone could be among them.
    pub kept: Kept,
}

impl WhoReport {
    /// With the flows that are in the table now, each of which may be in the history already.
    pub fn with_open(mut self, open: Vec<Record>) -> Self {
        let is_open =
            |kept: &Record| kept.closed.is_none() && open.iter().any(|open| open.is_same(kept));
        self.flows.retain(|kept| !is_open(kept));
        self.flows.extend(open);
        self.flows.sort_by_key(|flow| (flow.start, flow.client));
        self
    }
}

impl Record {
    /// Whether both are of the same flow. That one client uses the same port for the same server twice within two
    /// seconds cannot be, since the first one is in the table for longer.
    fn is_same(&self, other: &Self) -> bool {
        const VAGUE_MS: u64 = 2000;
        let apart = self
            .start
            .as_millisecond()
            .abs_diff(other.start.as_millisecond());
        (self.client, self.backend, self.translated, self.protocol)
            == (
                other.client,
                other.backend,
                other.translated,
                other.protocol,
            )
            && apart <= VAGUE_MS
    }

    fn line(&self) -> String {
        let end = match self.closed {
            Some(closed) => format!("{}  {}", local(closed.end), closed.cause.name()),
            None if self.open => "now".to_owned(),
            None => "an end that was not recorded".to_owned(),
        };
        format!(
            "client {}  {}  {} -> {}  asked for {}  rule {}  from {} to {end}\n",
            self.client,
            self.protocol.name(),
            self.translated,
            self.backend,
            self.listener,
            self.rule,
            local(self.start),
        )
    }
}

impl Render for WhoReport {
    fn render(&self) -> String {
        let mut text: String = self.flows.iter().map(Record::line).collect();
        if self.flows.is_empty() {
            text.push_str("nobody that is known\n");
        }
        if self.left_out != 0 {
            text.push_str(&format!(
                "{} older ones are left out; --at picks a time\n",
                self.left_out
            ));
        }
        match self.kept {
            Kept::History => {}
            Kept::Nothing => text.push_str(
                "flows that are gone are not known: `[history]` in the configuration keeps them\n",
            ),
            Kept::Unusable => text.push_str(
                "flows that are gone are not known now: the history cannot be used, see the daemon's log\n",
            ),
        }
        text
    }
}
