//! A gateway that does as little as can be.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    helpers::bpf_redirect,
    macros::{map, xdp},
    maps::Array,
    programs::XdpContext,
};

use crate::half;

/// The way through the ceiling.
#[map]
static WAY: Array<Way> = Array::with_max_entries(1, 0);

/// Where the ceiling sends everything.
#[repr(C)]
#[derive(Clone, Copy)]
struct Way {
    /// Destination and source, as in the frame.
    macs: [u16; 6],
    device: u32,
}

/// The least a gateway can do: other MACs, and out.
#[xdp]
pub fn ceiling(context: XdpContext) -> u32 {
    pass_through(&context).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn pass_through(context: &XdpContext) -> Option<u32> {
    let start = context.data();
    if start + 14 > context.data_end() || half(start + 12) == 0x0806_u16.to_be() {
        return None;
    }
    // SAFETY: the map lives as long as the program.
    let way = unsafe { &*WAY.get_ptr(0)? };
    let mut index = 0;
    while index < 6 {
        // SAFETY: the bounds have been checked above.
        unsafe { *(start as *mut u16).wrapping_add(index) = way.macs[index] };
        index += 1;
    }
    // SAFETY: the helper has no conditions.
    Some(unsafe { bpf_redirect(way.device, 0) } as u32)
}
