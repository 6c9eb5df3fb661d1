//! Which client was behind a translated connection: what is kept of flows, in a database of one file.
//!
//! Nothing here needs a privilege. [`Keeper`] writes what the events tell, in batches on a thread of its own; [`Store`]
//! is the file. A flow is one record, written when it begins and again when it is gone.

mod keeper;
mod record;
mod report;
mod store;

#[cfg(test)]
mod tests;

pub use keeper::Keeper;
pub use record::Record;
pub use report::{Kept, WhoReport};
pub use store::{Found, HistoryError, Reader, Store};

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{control::FlowProtocol, events::time::Moment};

/// Who is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhoQuery {
    /// Whom the backend saw.
    pub translated: SocketAddr,
    /// Only of this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<FlowProtocol>,
    /// When; `None`: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
}

impl WhoQuery {
    /// Whether a flow that lasted from `start` to `end` is meant, or one that has no `end` yet.
    pub fn takes(&self, start: Timestamp, end: Option<Timestamp>) -> bool {
        /// As exactly as the beginning of a flow is known.
        const VAGUE_MS: i64 = 1000;
        self.at.is_none_or(|at| {
            let start = start.as_millisecond() - VAGUE_MS;
            start < at.to.as_millisecond() && end.is_none_or(|end| end >= at.from)
        })
    }
}
