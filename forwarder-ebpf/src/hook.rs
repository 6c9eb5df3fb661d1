//! Where a packet is met: what differs between XDP, TC ingress and TC egress.

use core::ffi::c_void;

use forwarder_common::{
    flow::Route,
    frame::Frame,
    parse::Tag,
    reason::{Reason, Verdict},
};

use crate::{maps::Family, window::Window};

/// A packet in the kernel, with what can be done to it there.
pub trait Hook: Frame {
    /// Index in [`forwarder_common::stats::RuleTraffic::by_hook`].
    const INDEX: usize;
    /// Whether the slow path can still take what this hook cannot finish.
    const FAST: bool;
    /// Whether packets come from this host's own stack.
    const EGRESS: bool;

    /// The program's context, for helpers.
    fn context(&self) -> *mut c_void;

    /// The packet as it lies now, also after a helper has moved it.
    fn window(&self) -> Window;

    /// Takes note of the frame's VLAN tag, which decides about its device.
    fn arrive(&mut self, tag: Option<Tag>) -> Result<(), Reason>;

    /// Takes note of whether the packet is a fragment, which has come by [`Stage::Fragment`].
    ///
    /// [`Stage::Fragment`]: forwarder_common::stage::Stage::Fragment
    fn is_fragment(&mut self, _is: bool) {}

    /// Takes note that the packet, which is as it came, is going to be rewritten for a flow of the rule with this slot,
    /// in its original direction or in the other.
    fn commit(&mut self, _rule: u32, _is_original: bool) {}

    /// Index of the device the packet came in by: the VLAN device if it has a tag.
    fn ingress(&self) -> u32;

    /// Index of the device that the packet is on: the one it came in by, or is about to leave by.
    fn near(&self) -> u32 {
        self.ingress()
    }

    /// Length of the largest IP packet on the wire that this one of `length` bytes with so many of
    /// `headers` becomes: shorter where the device cuts it into segments.
    fn wire_length(&self, length: u32, headers: u16) -> u32;

    /// Whether this hook can send by `route`.
    fn can_send(&self, route: &Route) -> bool;

    /// Sends the finished frame, which has the tag that [`Hook::arrive`] was told, by `route`. Returns the
    /// program's return value.
    fn send(&mut self, route: &Route) -> i32;

    /// Sends the packet out of `egress`, leaving the Ethernet header to the kernel's neighbour code, which
    /// keeps it until `next_hop` has answered. Only where [`Hook::FAST`] is false.
    fn send_by_neighbour<A: Family>(&self, egress: u32, next_hop: A) -> i32;

    /// Sends the frame back out of the device it came in by, tag and all. `flags` are that device's.
    fn bounce(&mut self, flags: u32) -> i32;

    /// Cuts the frame to `length` bytes, then makes `room` bytes between its link header, which ends at
    /// `network`, and the rest, or in front of it all. The link header is to be written anew. False if the
    /// kernel refuses.
    fn reshape(&mut self, length: u32, room: u32) -> bool;

    /// Lets the packet go the way it was going.
    fn stay(&self) -> i32;

    /// The program's return value for a packet that is not sent on.
    fn refuse(&self, verdict: Verdict) -> i32;

    /// Goes on with the program at `index` of the stages. Returns only if it is missing.
    fn jump(&self, index: u32);
}
