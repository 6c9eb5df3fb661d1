//! What the programs say in words, where a counter cannot tell all.

use aya_ebpf::helpers::bpf_jiffies64;
use aya_log_ebpf::warn;
use forwarder_common::{address::V4, flow::FlowKey};

use crate::maps::SCRATCH;

/// Jiffies between two messages of one CPU: a quarter of a second at 1000 Hz, two and a half at 100 Hz.
const QUIET: u64 = 256;

/// Names the backend towards which no source port is left. A function of its own, so that its formatting
/// takes no stack from the packet's way.
#[inline(never)]
pub fn ports_exhausted(to: &FlowKey<V4>) {
    if !is_due() {
        return;
    }
    let source = u32::from_be(to.source.raw());
    let backend = u32::from_be(to.destination.raw());
    let port = u16::from_be(to.destination_port_be);
    warn!(
        (),
        "no source port is left at {:i} towards {:i}:{}", source, backend, port
    );
}

/// Whether this CPU has been quiet for long enough.
fn is_due() -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's live map value, and no other reference to this field.
    let told = unsafe { &mut (*scratch).told };
    // SAFETY: the helper takes no argument and only reads a clock.
    let now = unsafe { bpf_jiffies64() };
    if now.wrapping_sub(*told) < QUIET {
        return false;
    }
    *told = now;
    true
}
