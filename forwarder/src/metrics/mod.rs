//! Metrics for Prometheus: what they are made of, what they are called, and the server that hands them out.
//!
//! A scrape reads counters, one system call for each rule, and for everything that would need a walk over the flows
//! takes what the last sweep counted. It waits for nobody and holds nobody up.

mod catalogue;
mod server;
mod snapshot;
mod text;

#[cfg(test)]
mod tests;

pub use catalogue::{METRICS, Metric};
pub use server::{Listener, MetricsError, Server, Source};
pub use snapshot::{FlowCount, PoolCount, RuleTotals, Snapshot, SweepTotals, Swept};
pub use text::{CONTENT_TYPE, render};
