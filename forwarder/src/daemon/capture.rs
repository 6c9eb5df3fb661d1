//! The daemon's part in `forwarder capture`: the programs.

use std::sync::Arc;

use anyhow::Context as _;
use forwarder_common::capture::{ANY_RULE, LONGEST, Order};
use tracing::{info, warn};

use super::running::{Running, State};
use crate::{
    control::{CaptureGrant, CaptureQuery},
    datapath::{Attached, Link, Pins},
    network,
};

/// Has the programs make copies for as long as it lives.
pub(super) struct Capturing(Arc<Running>);

impl Drop for Capturing {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.capturing = false;
        match state.end_capture() {
            Ok(()) => info!("capture: ended"),
            Err(error) => warn!(
                "the programs that make copies of packets are still in place, which costs time: {error:#}; restart the daemon"
            ),
        }
    }
}

/// Puts programs in place that make copies. One at a time: what is to be copied is one record.
///
/// # Errors
/// Somebody captures already, there is no such rule, or the kernel refuses a program.
pub(super) fn begin(
    running: &Arc<Running>,
    query: &CaptureQuery,
) -> anyhow::Result<(CaptureGrant, Capturing)> {
    let mut state = running.state();
    anyhow::ensure!(
        !state.capturing,
        "another `forwarder capture` is running: stop it first"
    );
    let order = Order {
        rule: state.slot(query.rule.as_deref())?,
        length: query.length.min(LONGEST),
    };
    let directory = Pins::here()?.directory().to_owned();
    state.capturing = true;
    // From here on its end takes everything back.
    let capturing = Capturing(Arc::clone(running));
    let begun = state.begin_capture(order);
    drop(state);
    begun.context("cannot make copies of packets")?;
    match &query.rule {
        Some(rule) => info!("capture: packets of rule `{rule}`"),
        None => info!("capture: packets of every rule"),
    }
    Ok((CaptureGrant { directory }, capturing))
}

impl State {
    /// The slot of the rule `name`.
    fn slot(&self, name: Option<&str>) -> anyhow::Result<u32> {
        let Some(name) = name else {
            return Ok(ANY_RULE);
        };
        self.datapath.rule_slot(name).with_context(|| {
            let names = self.datapath.rule_names();
            let names: Vec<_> = names
                .into_values()
                .map(|name| format!("`{name}`"))
                .collect();
            format!(
                "there is no rule `{name}`; expected one of {}",
                names.join(", ")
            )
        })
    }

    fn begin_capture(&mut self, order: Order) -> anyhow::Result<()> {
        let served = self.served();
        self.datapath.begin_capture(order, &served, is_native)
    }

    fn end_capture(&mut self) -> anyhow::Result<()> {
        let served = self.served();
        self.datapath.end_capture(&served, is_native)
    }

    /// The devices that have programs.
    fn served(&self) -> Vec<(Link, Attached)> {
        let links = self.attached.iter().filter_map(|(name, attached)| {
            let link = self.network.link(name)?;
            (link.index == attached.index).then(|| (link.clone(), attached.clone()))
        });
        links.collect()
    }
}

fn is_native(link: &Link) -> bool {
    network::driver(&link.name).is_some_and(|driver| network::has_native_xdp(&driver))
}
