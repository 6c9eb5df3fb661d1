//! The slow path: TC ingress.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh,
    },
    helpers::{bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_pull_data},
    macros::classifier,
    programs::TcContext,
};
use forwarder_common::{
    address::V4,
    checksum::Delta,
    device::{HANDOFF, NO_METADATA},
    flow::Route,
    frame::{Frame, Transport},
    parse::Packet,
    reason::{Reason, Verdict},
    stats::HOOK_TC,
};

use crate::{account, hook::Hook, maps::DEVICES, pipeline, window::Window};

/// On devices without XDP: the whole pipeline for every packet.
#[classifier]
pub fn forwarder_tc(context: TcContext) -> i32 {
    run(&context)
}

/// On devices with XDP: only what XDP has marked as ours. Everything else has been looked at already.
#[classifier]
pub fn forwarder_slow(context: TcContext) -> i32 {
    if is_marked(&context) || !has_metadata(&context) {
        run(&context)
    } else {
        TC_ACT_UNSPEC
    }
}

/// Whether XDP has handed this packet over.
#[inline(always)]
fn is_marked(context: &TcContext) -> bool {
    // SAFETY: the context is the kernel's.
    let mark = unsafe { (*context.skb.skb).data_meta } as usize;
    if mark + size_of::<u32>() > context.data() {
        return false;
    }
    // SAFETY: the four bytes of metadata were bounds-checked.
    unsafe { (mark as *const u32).read() == HANDOFF }
}

/// Whether XDP can mark packets on this device at all.
#[inline(always)]
fn has_metadata(context: &TcContext) -> bool {
    // SAFETY: the context is the kernel's.
    let ingress = unsafe { (*context.skb.skb).ingress_ifindex };
    match DEVICES.get_ptr(ingress) {
        Some(device) => {
            // SAFETY: `get_ptr` returned a live map value.
            let flags = unsafe { (*device).flags };
            flags & NO_METADATA == 0
        }
        None => true,
    }
}

#[inline(always)]
fn run(context: &TcContext) -> i32 {
    let Some(mut frame) = SkbFrame::new(context) else {
        account::refused(Reason::SlowPathFailed);
        return TC_ACT_SHOT;
    };
    if frame.has_vlan_tag() {
        // The tag is beside the packet, not in it: the bytes look untagged but are not.
        account::refused(Reason::NotIpv4);
        return TC_ACT_UNSPEC;
    }
    match pipeline::run(&mut frame) {
        Ok(action) => action,
        Err(reason) => match reason.verdict() {
            // UNSPEC, not OK: programs and filters behind this one have their turn.
            Verdict::Pass => TC_ACT_UNSPEC,
            Verdict::SlowPath | Verdict::Drop => TC_ACT_SHOT,
        },
    }
}

/// Bytes that parsing may look at: Ethernet, the longest IPv4 header (RFC 791: 15 words), TCP's fixed one.
const HEADERS: u32 = 14 + 60 + 20;

/// The packet in an skb, its headers in the linear part.
struct SkbFrame<'a> {
    context: &'a TcContext,
    window: Window,
}

impl<'a> SkbFrame<'a> {
    #[inline(always)]
    fn new(context: &'a TcContext) -> Option<Self> {
        let linear = Window::new(context.data(), context.data_end()).length();
        let wanted = if context.len() < HEADERS {
            context.len()
        } else {
            HEADERS
        };
        if linear < wanted {
            // SAFETY: the context is the kernel's.
            if unsafe { bpf_skb_pull_data(context.skb.skb, wanted) } != 0 {
                return None;
            }
        }
        Some(Self {
            context,
            window: Window::new(context.data(), context.data_end()),
        })
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.context.skb.skb).vlan_present != 0 }
    }

    /// Folds `delta` into the checksum at `offset`. The helper knows about checksums that the device is
    /// to finish or has summed, which plain arithmetic on the field would break.
    #[inline(always)]
    fn replace_checksum(&self, offset: usize, delta: Delta, flags: u64) {
        // From 0 to a 16-bit difference with size 0: `inet_proto_csum_replace_by_diff`.
        // SAFETY: the context is the kernel's. It cannot fail: the field was bounds-checked, and the
        // verifier's prologue has made the linear part writable.
        unsafe {
            bpf_l4_csum_replace(
                self.context.skb.skb,
                offset as u32,
                0,
                u64::from(delta.raw()),
                flags,
            )
        };
    }
}

impl Frame for SkbFrame<'_> {
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        self.window.at(offset)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn update_transport_checksum(
        &mut self,
        transport: Transport,
        offset: usize,
        addresses: Delta,
        ports: Delta,
    ) {
        // MARK_MANGLED_0 is the helper's word for UDP's rule: zero stays zero and is never made.
        let zero = match transport {
            Transport::Tcp => 0,
            Transport::Udp => u64::from(BPF_F_MARK_MANGLED_0),
        };
        if addresses != Delta::NONE {
            self.replace_checksum(offset, addresses, zero | u64::from(BPF_F_PSEUDO_HDR));
        }
        if ports != Delta::NONE {
            self.replace_checksum(offset, ports, zero);
        }
    }
}

impl Hook for SkbFrame<'_> {
    const INDEX: usize = HOOK_TC;
    const FAST: bool = false;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.context.skb.skb).ingress_ifindex }
    }

    #[inline(always)]
    fn wire_length(&self, packet: &Packet) -> u32 {
        // SAFETY: the context is the kernel's.
        match unsafe { (*self.context.skb.skb).gso_size } {
            0 => u32::from(packet.length),
            payload => u32::from(packet.headers) + payload,
        }
    }

    #[inline(always)]
    fn can_send(&self, _route: &Route) -> bool {
        true
    }

    #[inline(always)]
    fn send(&self, route: &Route) -> i32 {
        // SAFETY: no pointer is passed.
        unsafe { bpf_redirect(route.egress, 0) as i32 }
    }

    #[inline(always)]
    fn send_by_neighbour(&self, egress: u32, next_hop: V4) -> i32 {
        if next_hop.is_unspecified() {
            // SAFETY: no pointer is passed; the kernel routes by the packet's own destination.
            return unsafe { bpf_redirect_neigh(egress, core::ptr::null_mut(), 0, 0) as i32 };
        }
        // SAFETY: all-zero is a valid value of this plain C struct.
        let mut neighbour: bpf_redir_neigh = unsafe { core::mem::zeroed() };
        neighbour.nh_family = u32::from(<V4 as forwarder_common::address::Address>::FAMILY);
        neighbour.__bindgen_anon_1.ipv4_nh = next_hop.raw();
        let size = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: `neighbour` lives across the call and `size` is its size.
        unsafe { bpf_redirect_neigh(egress, &raw mut neighbour, size, 0) as i32 }
    }
}
