//! What the programs say in words, where a counter cannot tell all.

use aya_ebpf::helpers::bpf_jiffies64;
use aya_log_ebpf::warn;
use forwarder_common::{address::V6, flow::FlowKey};

use crate::maps::{Family, SCRATCH};

/// Jiffies between two messages of one CPU: a quarter of a second at 1000 Hz, two and a half at 100 Hz.
const QUIET: u64 = 256;

/// Names the backend towards which no source port is left.
#[inline(always)]
pub fn ports_exhausted<A: Family>(to: &FlowKey<A>) {
    if !is_due() {
        return;
    }
    let port = u16::from_be(to.destination_port_be);
    if A::IPV6 {
        v6(to.source.words(), to.destination.words(), port);
    } else {
        v4(to.source.words()[0], to.destination.words()[0], port);
    }
}

/// A function of its own, so that its formatting takes no stack from the packet's way.
#[inline(never)]
fn v4(source: u32, backend: u32, port: u16) {
    let (source, backend) = (u32::from_be(source), u32::from_be(backend));
    warn!(
        (),
        "no source port is left at {:i} towards {:i}:{}", source, backend, port
    );
}

/// As [`v4`].
#[inline(never)]
fn v6(source: [u32; 4], backend: [u32; 4], port: u16) {
    let (source, backend) = (
        V6::from_raw(source).octets(),
        V6::from_raw(backend).octets(),
    );
    warn!(
        (),
        "no source port is left at {:i} towards [{:i}]:{}", source, backend, port
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
