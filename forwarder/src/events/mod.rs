//! Flows that begin and end: what is said of them, and who hears it.
//!
//! Nothing here needs a privilege. Events come in through [`Hub::publish`], from the programs' ring and from the sweep,
//! and go on by bounded queues: whoever is too slow loses events, which are counted, and holds nobody up.

mod event;
mod hub;
mod journal;
mod log;
mod query;
mod queue;
mod text;
pub mod time;

#[cfg(test)]
pub(crate) mod tests;

pub use event::{Cause, Closed, Counts, FlowEvent, Kind};
pub use hub::{Hub, Listener, Place, Totals};
pub use log::FlowLogger;
pub use query::EventQuery;
pub use queue::{Overrun, Queue, Taken};
pub use text::local;

use serde::{Deserialize, Serialize};

/// Some events, as they come to whoever listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// In the order in which they happened; may be none.
    pub events: Vec<FlowEvent>,
    /// Events that this listener has not been told of since the last ones.
    pub lost: u64,
}
