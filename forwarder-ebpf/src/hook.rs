//! Where a packet is met: what differs between XDP and TC.

use core::ffi::c_void;

use forwarder_common::{address::V4, flow::Route, frame::Frame, parse::Packet};

/// A packet in the kernel, with what can be done to it there.
pub trait Hook: Frame {
    /// Index in [`forwarder_common::stats::RuleTraffic::by_hook`].
    const INDEX: usize;
    /// Whether the slow path can still take what this hook cannot finish.
    const FAST: bool;

    /// The program's context, for helpers.
    fn context(&self) -> *mut c_void;

    /// Index of the device the packet came in by.
    fn ingress(&self) -> u32;

    /// Length of the largest IP packet that `packet` is on the wire, in bytes: shorter than the packet
    /// itself where the device cuts it into segments.
    fn wire_length(&self, packet: &Packet) -> u32;

    /// Whether this hook can send by `route`.
    fn can_send(&self, route: &Route) -> bool;

    /// Sends the finished frame by `route` and returns the program's return value.
    fn send(&self, route: &Route) -> i32;

    /// Sends the packet out of `egress`, leaving the Ethernet header to the kernel's neighbour code, which
    /// keeps it until `next_hop` has answered. Only where [`Hook::FAST`] is false.
    fn send_by_neighbour(&self, egress: u32, next_hop: V4) -> i32;
}
