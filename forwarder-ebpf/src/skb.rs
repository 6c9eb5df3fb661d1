//! The packet in an skb.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{
        BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, bpf_redir_neigh,
    },
    helpers::{
        bpf_clone_redirect, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh,
        bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use forwarder_common::address::V6;
use forwarder_common::{
    checksum::Delta,
    device::{HANDOFF, HANDOFF_COVERED},
    flow::Route,
    fragment::HELD_BYTES,
    frame::{self, Frame, Transport},
    network::{MAX_EXTENSION_BYTES, Network},
    parse::{TCP, Tag, UDP},
    reason::{Reason, Verdict},
    rule::LOCAL,
    stats::HOOK_TC,
};
use network_types::{eth::EthHdr, ip::Ipv6Hdr};

use crate::{
    fragment::Holder,
    hook::Hook,
    maps::{self, EGRESS_STAGES, Family, TC_STAGES},
    window::Window,
};

/// Bytes that parsing may look at without extension headers: Ethernet, the longest IPv4 header (RFC 791: 15
/// words), TCP's fixed one.
const USUAL: u32 = 14 + 60 + 20;
/// The same with extension headers, the last of which may be as long as one can be.
pub const HEADERS: u32 = 14 + MAX_EXTENSION_BYTES as u32 + 2048 + 20;
/// Bytes that quoting a packet, or reading a quoted one, may look at.
pub const QUOTE: u32 = 14 + 40 + MAX_EXTENSION_BYTES as u32 + 1280;

/// The packet in an skb, its headers in the linear part.
pub struct SkbFrame<'a, const EGRESS: bool> {
    context: &'a TcContext,
    window: Window,
}

impl<'a, const EGRESS: bool> SkbFrame<'a, EGRESS> {
    /// With the first `wanted` bytes within reach. `None` if the kernel is out of memory.
    #[inline(always)]
    pub fn new(context: &'a TcContext, wanted: u32) -> Option<Self> {
        let wanted = if context.len() < wanted {
            context.len()
        } else {
            wanted
        };
        if context.data() + wanted as usize > context.data_end() {
            // SAFETY: the context is the kernel's.
            if unsafe { bpf_skb_pull_data(context.skb.skb, wanted) } != 0 {
                return None;
            }
        }
        Some(Self::untouched(context))
    }

    /// With whatever is within reach.
    #[inline(always)]
    pub fn untouched(context: &'a TcContext) -> Self {
        Self {
            context,
            window: Window::new(context.data(), context.data_end()),
        }
    }

    /// With as much within reach as the packet's kind may need.
    #[inline(always)]
    pub fn of_any(context: &'a TcContext) -> Option<Self> {
        let frame = Self::new(context, USUAL)?;
        if frame.has_extensions() {
            return Self::new(context, HEADERS);
        }
        Some(frame)
    }

    /// Whether the packet may have IPv6 extension headers.
    #[inline(always)]
    fn has_extensions(&self) -> bool {
        let Some(start) = self.at::<[u8; EthHdr::LEN + Ipv6Hdr::LEN]>(0) else {
            return false;
        };
        // SAFETY: `at` bounds-checked both headers.
        let ether_type: u16 = unsafe { frame::read_field(start.cast(), 12) };
        // SAFETY: as above; the next header is octet 6.
        let next: u8 = unsafe { frame::read_field(start.cast(), EthHdr::LEN + 6) };
        ether_type == V6::ETHER_TYPE && next != TCP && next != UDP && next != V6::ICMP
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

    /// Looks at the packet again, after a helper that may have moved it, with `wanted` bytes within reach.
    #[inline(always)]
    fn look(&mut self, wanted: u32) -> bool {
        match Self::new(self.context, wanted) {
            Some(again) => {
                self.window = again.window;
                true
            }
            None => false,
        }
    }

    /// Makes the frame `bytes`.
    #[inline(always)]
    fn fill(&mut self, bytes: &[u8; HELD_BYTES], length: u32) -> bool {
        let Some(length) = bounded(length) else {
            return false;
        };
        let skb = self.context.skb.skb;
        // SAFETY: the context is the kernel's.
        if unsafe { bpf_skb_change_tail(skb, length, 0) } != 0 {
            return false;
        }
        // SAFETY: `bytes` has `length` bytes.
        unsafe { bpf_skb_store_bytes(skb, 0, bytes.as_ptr().cast(), length, 0) == 0 }
    }
}

/// `length`, if a held frame may have it, in a way that the verifier follows: a compiler that knows that the
/// mask changes nothing would leave it out, and the verifier does not see the comparison.
#[inline(always)]
fn bounded(length: u32) -> Option<u32> {
    const MASK: u32 = HELD_BYTES as u32 - 1;
    if length == 0 || length as usize > HELD_BYTES {
        return None;
    }
    Some((black_box(length - 1) & MASK) + 1)
}

impl<const EGRESS: bool> Frame for SkbFrame<'_, EGRESS> {
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        self.window.at(offset)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.context.len()
    }

    #[inline(always)]
    fn sum<const N: usize>(&self, offset: usize) -> Option<u32> {
        self.window.sum::<N>(offset)
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        maps::forget(value)
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
            Transport::Udp => u64::from(BPF_F_MARK_MANGLED_0),
            _ => 0,
        };
        if addresses != Delta::NONE {
            self.replace_checksum(offset, addresses, zero | u64::from(BPF_F_PSEUDO_HDR));
        }
        if ports != Delta::NONE {
            self.replace_checksum(offset, ports, zero);
        }
        // The helper makes what was known of the packet's place stale.
        self.window = Window::new(self.context.data(), self.context.data_end());
    }
}

impl<const EGRESS: bool> Hook for SkbFrame<'_, EGRESS> {
    const INDEX: usize = HOOK_TC;
    const FAST: bool = false;
    const EGRESS: bool = EGRESS;

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.context.as_ptr()
    }

    #[inline(always)]
    fn window(&self) -> Window {
        Window::new(self.context.data(), self.context.data_end())
    }

    /// The outer tag of a frame is beside the packet, not in it: the bytes look untagged but are not. The
    /// VLAN device's own program gets the packet without it.
    #[inline(always)]
    fn arrive(&mut self, tag: Option<Tag>) -> Result<(), Reason> {
        // SAFETY: the context is the kernel's.
        if tag.is_some() || unsafe { (*self.context.skb.skb).vlan_present } != 0 {
            return Err(Reason::ForeignVlan);
        }
        Ok(())
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        if EGRESS {
            return LOCAL;
        }
        // SAFETY: the context is the kernel's.
        unsafe { (*self.context.skb.skb).ingress_ifindex }
    }

    #[inline(always)]
    fn near(&self) -> u32 {
        if EGRESS {
            // SAFETY: the context is the kernel's.
            unsafe { (*self.context.skb.skb).ifindex }
        } else {
            self.ingress()
        }
    }

    #[inline(always)]
    fn wire_length(&self, length: u32, headers: u16) -> u32 {
        // SAFETY: the context is the kernel's.
        match unsafe { (*self.context.skb.skb).gso_size } {
            0 => length,
            payload => u32::from(headers) + payload,
        }
    }

    #[inline(always)]
    fn can_send(&self, _route: &Route) -> bool {
        true
    }

    #[inline(always)]
    fn send(&mut self, route: &Route) -> i32 {
        // SAFETY: no pointer is passed.
        unsafe { bpf_redirect(route.egress.index(), 0) as i32 }
    }

    #[inline(always)]
    fn send_by_neighbour<A: Family>(&self, egress: u32, next_hop: A) -> i32 {
        if next_hop.is_unspecified() {
            // SAFETY: no pointer is passed; the kernel routes by the packet's own destination.
            return unsafe { bpf_redirect_neigh(egress, core::ptr::null_mut(), 0, 0) as i32 };
        }
        // SAFETY: all-zero is a valid value of this plain C struct.
        let mut neighbour: bpf_redir_neigh = unsafe { core::mem::zeroed() };
        neighbour.nh_family = u32::from(A::FAMILY);
        neighbour.__bindgen_anon_1.ipv6_nh = next_hop.words();
        let size = size_of::<bpf_redir_neigh>() as i32;
        // SAFETY: `neighbour` lives across the call and `size` is its size.
        unsafe { bpf_redirect_neigh(egress, &raw mut neighbour, size, 0) as i32 }
    }

    #[inline(always)]
    fn bounce(&mut self, _flags: u32) -> i32 {
        // SAFETY: no pointer is passed.
        unsafe { bpf_redirect(self.ingress(), 0) as i32 }
    }

    #[inline(always)]
    fn reshape(&mut self, length: u32, room: u32) -> bool {
        let skb = self.context.skb.skb;
        // SAFETY: the context is the kernel's.
        if unsafe { bpf_skb_change_tail(skb, length, 0) } != 0 {
            return false;
        }
        if room != 0 {
            // SAFETY: as above.
            let made = unsafe { bpf_skb_adjust_room(skb, room as i32, BPF_ADJ_ROOM_MAC, 0) };
            if made != 0 {
                return false;
            }
        }
        self.look(USUAL)
    }

    /// Not TC_ACT_OK: programs and filters behind this one have their turn.
    #[inline(always)]
    fn stay(&self) -> i32 {
        TC_ACT_UNSPEC
    }

    #[inline(always)]
    fn refuse(&self, verdict: Verdict) -> i32 {
        match verdict {
            Verdict::Pass => TC_ACT_UNSPEC,
            Verdict::SlowPath | Verdict::Drop => TC_ACT_SHOT,
        }
    }

    #[inline(always)]
    fn jump(&self, index: u32) {
        let stages = if EGRESS { &EGRESS_STAGES } else { &TC_STAGES };
        // SAFETY: nothing here has a destructor that would be skipped.
        unsafe { stages.tail_call(self.context, index) };
    }
}

/// With what word XDP has handed this packet over, or the one of a fragment that has been brought back.
#[inline(always)]
pub fn mark(context: &TcContext) -> Option<u32> {
    let skb = context.skb.skb;
    // SAFETY: the context is the kernel's.
    let start = unsafe { (*skb).data_meta } as usize;
    if start + size_of::<u32>() <= context.data() {
        // SAFETY: the four bytes of metadata were bounds-checked.
        let word = unsafe { (start as *const u32).read() };
        if word == HANDOFF || word == HANDOFF_COVERED {
            return Some(word);
        }
    }
    // What is brought back comes by generic XDP once more, so the metadata are asked first.
    // SAFETY: the context is the kernel's.
    (unsafe { (*skb).mark } == HANDOFF).then_some(HANDOFF)
}

impl<const EGRESS: bool> Holder for SkbFrame<'_, EGRESS> {
    #[inline(always)]
    fn is_on_record(&self) -> bool {
        !EGRESS && mark(self.context) == Some(HANDOFF_COVERED)
    }

    #[inline(always)]
    fn save(&self, bytes: &mut [u8; HELD_BYTES], length: u32) -> bool {
        let Some(length) = bounded(length) else {
            return false;
        };
        // SAFETY: the context is the kernel's, and `bytes` has room for `length` bytes.
        unsafe {
            bpf_skb_load_bytes(self.context.as_ptr(), 0, bytes.as_mut_ptr().cast(), length) == 0
        }
    }

    #[inline(always)]
    fn replay(&mut self, bytes: &[u8; HELD_BYTES], length: u32) {
        if !self.fill(bytes, length) {
            return;
        }
        let skb = self.context.skb.skb;
        // SAFETY: the context is the kernel's; the mark is the program's to write.
        unsafe { (*skb).mark = HANDOFF };
        // SAFETY: no pointer is passed but the context.
        unsafe { bpf_clone_redirect(skb, self.ingress(), u64::from(BPF_F_INGRESS)) };
        // SAFETY: as above.
        unsafe { (*skb).mark = 0 };
    }

    #[inline(always)]
    fn restore(&mut self, bytes: &[u8; HELD_BYTES], length: u32) -> bool {
        self.fill(bytes, length) && self.look(USUAL)
    }
}
