//! Endpoint-independent mappings: one client socket is one translated port, whomever it talks to.
//!
//! RFC 4787 REQ-1. A mapping is two entries of one table: from the client's socket to the port that
//! stands for it, and from that port back. The second one is what reserves the port.

#[cfg(feature = "user")]
use crate::address::Address;
use crate::address::{V4, V6};

/// One side of a mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MappingKey<A> {
    /// The client, or the address that stands for it.
    pub address: A,
    /// Its port, network byte order.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// [`INSIDE`] or [`OUTSIDE`].
    pub side: u8,
}

/// [`MappingKey::side`]: the client's.
pub const INSIDE: u8 = 0;
/// [`MappingKey::side`]: the translated one.
pub const OUTSIDE: u8 = 1;

/// The other side of a mapping.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping<A> {
    /// Its address.
    pub address: A,
    /// Its port, network byte order.
    pub port_be: u16,
    /// 1 if everybody may send to the translated port, not only whom the client has sent to.
    pub unfiltered: u16,
    /// Slot of the rule that made it.
    pub rule: u32,
    /// `bpf_jiffies64` when a flow was last made with it, low 32 bits. A mapping lives for as long as one
    /// of its flows does.
    pub last_used: u32,
}

const _: () = {
    assert!(size_of::<MappingKey<V4>>() == 8);
    assert!(size_of::<MappingKey<V6>>() == 20);
    assert!(size_of::<Mapping<V4>>() == 16);
    assert!(size_of::<Mapping<V6>>() == 28);
};

// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for MappingKey<A> {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for Mapping<A> {}
