//! A flow that is being made: what the stages that make it tell each other.

#[cfg(feature = "user")]
use crate::address::{V4, V6};
use crate::{
    flow::{FlowEntry, FlowKey},
    fragment::FragmentKey,
    mapping::{Mapping, MappingKey},
    rule::ListenerKey,
};

/// Which source ports a new flow may have.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Whether one client socket is one port: 0 or 1.
    pub independent: u32,
    /// The port that stands for the client's socket already, with bit 16 set; 0 for none.
    pub mapped: u32,
    /// The client's own port, likewise; 0 if it may not be had.
    pub own: u32,
}

/// A new flow before it is in the tables: too large for the stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries<A> {
    /// The tuple of the packet that opens it.
    pub from: FlowKey<A>,
    /// The tuple it will leave with.
    pub to: FlowKey<A>,
    /// A key that is looked for.
    pub key: FlowKey<A>,
    /// A listener that is looked for.
    pub listener: ListenerKey<A>,
    /// The datagram that a fragment is of.
    pub datagram: FragmentKey<A>,
    /// One side of a mapping that is looked for.
    pub socket: MappingKey<A>,
    /// And what it leads to.
    pub mapping: Mapping<A>,
    /// [`crate::rule::RuleEntry::flags`] of the rule that it meets.
    pub rule_flags: u32,
    /// Whether that rule, or the device, only watches: 0 or 1.
    pub shadow: u32,
    /// What the search for a source port may do.
    pub choice: Choice,
    /// Its original direction.
    pub original: FlowEntry<A>,
    /// Its reply direction.
    pub reply: FlowEntry<A>,
}

// SAFETY: integers only, and userspace writes none.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Entries<V4> {}

// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Entries<V6> {}
