//! parse → look up → plan → ── commit ── → rewrite → emit
//!
//! Everything that can fail stands before the commit line; before it no byte of the packet is written.
//! After it nothing fails.

use aya_ebpf::helpers::bpf_jiffies64;
use forwarder_common::{parse, reason::Reason, rewrite};

use crate::{
    account,
    hook::Hook,
    lookup, maps,
    plan::{self, Way},
};

/// Runs one packet through and counts it. Returns the program's return value for a packet that was sent.
///
/// # Errors
///
/// The [`Reason`] it was not sent, already counted; its verdict says what becomes of the packet.
#[inline(always)]
pub fn run<H: Hook>(hook: &mut H) -> Result<i32, Reason> {
    let result = forward(hook);
    if let Err(reason) = result {
        account::refused(reason);
    }
    result
}

#[inline(always)]
fn forward<H: Hook>(hook: &mut H) -> Result<i32, Reason> {
    let packet = parse::parse(hook)?;
    let settings = maps::SETTINGS.get(0).ok_or(Reason::NoRule)?;
    // SAFETY: the helper takes no argument and only reads a clock.
    let now = unsafe { bpf_jiffies64() };
    let flow = lookup::flow(hook, &packet, settings, now)?;
    let way = plan::plan(hook, &packet, flow, settings)?;

    // ── commit ──

    rewrite::apply(hook, &packet, &flow.rewrite, &flow.route);
    account::forwarded::<H>(&packet, flow, now);
    Ok(match way {
        Way::Frame => hook.send(&flow.route),
        Way::Neighbour(egress, next_hop) => hook.send_by_neighbour(egress, next_hop),
    })
}
