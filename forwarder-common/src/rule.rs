//! Listeners, rules, backends and client prefixes: what userspace tells the kernel to do.

use core::mem::offset_of;

use crate::address::{Address, V4, V6};

/// One block of ports at one address on one device: the key of the listener table.
///
/// A port range is cut into aligned power-of-two blocks, so that 60,000 ports take at most 30 entries
/// and a look-up is one hash probe for each [`Shape`] in use, however many rules there are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerKey<A> {
    /// Destination address, or zero for any.
    pub address: A,
    /// Ingress device, 0 for any, [`LOCAL`], or a rule's slot with [`OUTBOUND`].
    pub interface: u32,
    /// First port of the block, host byte order: the port with its low `shift` bits cleared.
    pub block: u16,
    /// log2 of the block's length in ports: 0 to 16.
    pub shift: u8,
    /// IP protocol number.
    pub protocol: u8,
}

/// [`ListenerKey::interface`] of connections that this host itself opens: the index of `lo` in every network
/// namespace (`LOOPBACK_IFINDEX` in include/net/flow.h).
pub const LOCAL: u32 = 1;
/// [`ListenerKey::interface`] of the ports that the clients of an outbound rule may reach, with its slot.
pub const OUTBOUND: u32 = 1 << 31;
/// Set beside [`OUTBOUND`], and in the table of outbound clients, for a rule that only watches: see [`SHADOW`].
pub const OUTBOUND_SHADOW: u32 = 1 << 30;

/// One combination of wildcards that some rule uses. Look-ups try them in order, most specific first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// 1 if the rule takes any address.
    pub any_address: u8,
    /// 1 if the rule takes any device.
    pub any_interface: u8,
    /// log2 of the block length.
    pub shift: u8,
    /// Zero.
    pub padding: u8,
}

/// 2 × 2 × 17 combinations: as many as there can be.
pub const MAX_SHAPES: u32 = 68;

/// Which shapes are in force: a half of the shape table and how many entries of it, in one word, so that a
/// change of rules takes effect in one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShapeRange(u32);

impl ShapeRange {
    const UPPER_HALF: u32 = 1 << 8;

    /// From [`crate::settings::Settings::shapes`].
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// As it is stored.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Index of the first.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        if self.0 & Self::UPPER_HALF != 0 {
            MAX_SHAPES
        } else {
            0
        }
    }

    /// How many.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        self.0 & (Self::UPPER_HALF - 1)
    }

    /// `count` entries of the half that is not in force now.
    pub const fn other_half(self, count: usize) -> Self {
        Self((self.0 & Self::UPPER_HALF) ^ Self::UPPER_HALF | count as u32)
    }
}

/// What a listener leads to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleEntry<A> {
    /// Slot of the rule in the statistics table, and its scope in the client-prefix table.
    pub rule: u32,
    /// Where this rule's backends start in the backend table.
    pub backends: u32,
    /// How many there are; none for an outbound rule, whose destination stays.
    pub backend_count: u16,
    /// First port the rule listens on, host byte order.
    pub first_port: u16,
    /// [`SOURCE_PRESERVE`], [`SOURCE_MASQUERADE`] or [`SOURCE_POOL`].
    pub source_mode: u8,
    /// [`CLIENTS_ANY`], or whether the client-prefix table decides and what it means when it is silent.
    pub clients: u8,
    /// What TCP's maximum segment size is lowered to: 0 for "it stays", [`MSS_AUTO`], or bytes.
    pub mss: u16,
    /// [`TO_LOCAL`] and the other flags behind it.
    pub flags: u32,
    /// First address of the pool, for [`SOURCE_POOL`].
    pub pool_first: A,
    /// Last address of the pool, for [`SOURCE_POOL`].
    pub pool_last: A,
}

/// [`RuleEntry::mss`]: what fits through both directions' devices.
pub const MSS_AUTO: u16 = 1;

/// [`RuleEntry::flags`]: to a socket of this host.
pub const TO_LOCAL: u32 = 1;
/// [`RuleEntry::flags`]: a TCP packet of no flow is answered with a RST.
pub const RESET_UNKNOWN: u32 = 2;
/// [`RuleEntry::flags`]: one client socket is one source port towards everybody, for UDP (RFC 4787 REQ-1).
pub const ENDPOINT_INDEPENDENT: u32 = 4;
/// [`RuleEntry::flags`]: and everybody may send to that port (RFC 4787 section 5).
pub const UNFILTERED: u32 = 8;
/// [`RuleEntry::flags`]: its packets are counted, and left to the kernel untouched.
pub const SHADOW: u32 = 16;

/// The backend sees the client's address.
pub const SOURCE_PRESERVE: u8 = 0;
/// The backend sees the egress device's address.
pub const SOURCE_MASQUERADE: u8 = 1;
/// The backend sees an address of the rule's pool.
pub const SOURCE_POOL: u8 = 2;

/// Every client may use the rule.
pub const CLIENTS_ANY: u8 = 0;
/// Clients that no prefix names may use the rule (there is a deny list only).
pub const CLIENTS_ALLOWED_UNLESS_LISTED: u8 = 1;
/// Clients that no prefix names may not use the rule (there is an allow list).
pub const CLIENTS_DENIED_UNLESS_LISTED: u8 = 2;

/// One target of a rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend<A> {
    /// Where packets go; zero for where they were going anyway.
    pub address: A,
    /// Port, host byte order; its meaning is [`Backend::port_mode`]'s.
    pub port: u16,
    /// [`PORT_SAME`], [`PORT_SINGLE`] or [`PORT_SHIFTED`].
    pub port_mode: u8,
    /// Zero.
    pub padding: u8,
}

/// The destination port stays as it is.
pub const PORT_SAME: u8 = 0;
/// Every listener port leads to [`Backend::port`].
pub const PORT_SINGLE: u8 = 1;
/// The rule's first port leads to [`Backend::port`], its second to the next one, and so on.
pub const PORT_SHIFTED: u8 = 2;

impl<A> Backend<A> {
    /// The port a packet to `port` goes to, of a rule that listens from `first_port` on. Host byte order.
    #[inline(always)]
    pub const fn port_for(&self, port: u16, first_port: u16) -> u16 {
        match self.port_mode {
            PORT_SINGLE => self.port,
            PORT_SHIFTED => self.port.wrapping_add(port.wrapping_sub(first_port)),
            _ => port,
        }
    }
}

/// Key of the client-prefix table, behind the prefix length: a client address within a rule's scope.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientKey<A> {
    /// Slot of the rule.
    pub rule: u32,
    /// The client.
    pub address: A,
}

/// Value of the client-prefix table: refused.
pub const CLIENT_DENIED: u32 = 0;
/// Value of the client-prefix table: served.
pub const CLIENT_ALLOWED: u32 = 1;

/// Longest rule name in bytes.
pub const NAME_LENGTH: usize = 64;

/// Key of the table of outbound clients, behind the prefix length; the value is the rule's slot, with
/// [`OUTBOUND_SHADOW`] if it only watches.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundKey<A> {
    /// Ingress device, or 0 for any.
    pub interface: u32,
    /// The client.
    pub address: A,
}

/// Bits of [`ClientKey::rule`], [`OutboundKey::interface`] and [`MasqueradeKey::interface`], which every
/// prefix fixes.
pub const SCOPE_BITS: u32 = 32;

/// Key of the masquerade table, behind the prefix length: which own address is used towards a next hop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasqueradeKey<A> {
    /// Egress device.
    pub interface: u32,
    /// Next hop; an own address on its subnet is preferred, as netfilter's MASQUERADE prefers it.
    pub next_hop: A,
}

/// Value of the masquerade table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnAddress<A> {
    /// The address.
    pub address: A,
    /// 1 if the next hop is on its subnet, 0 if it is merely the device's first address.
    pub on_link: u32,
}

/// An aligned power-of-two block of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first port.
    pub first: u16,
    /// log2 of its length.
    pub shift: u8,
}

/// Cuts the ports from `first` to `last`, both included, into the fewest aligned blocks, in order.
///
/// At most 30 blocks: the standard decomposition of a range of 16-bit numbers into prefixes.
pub fn blocks(first: u16, last: u16) -> impl Iterator<Item = Block> {
    let mut next = u32::from(first);
    let end = u32::from(last) + 1;
    core::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        // The largest block that starts here and is aligned, then the largest that still fits.
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let fits = 31 - (end - next).leading_zeros();
        let shift = if aligned < fits { aligned } else { fits };
        let block = Block {
            first: next as u16,
            shift: shift as u8,
        };
        next += 1 << shift;
        Some(block)
    })
}

const _: () = {
    assert!(size_of::<ListenerKey<V4>>() == 12);
    assert!(offset_of!(ListenerKey<V4>, protocol) == 11);
    assert!(size_of::<Shape>() == 4);
    assert!(size_of::<ListenerKey<V6>>() == 24);
    assert!(size_of::<RuleEntry<V4>>() == 28);
    assert!(size_of::<RuleEntry<V6>>() == 52);
    assert!(offset_of!(RuleEntry<V4>, pool_first) == 20);
    assert!(size_of::<Backend<V4>>() == 8);
    assert!(size_of::<ClientKey<V4>>() == 8);
    assert!(size_of::<MasqueradeKey<V4>>() == 8);
};

/// Types that cross the kernel boundary: `repr(C)`, integers only, padding explicit.
#[cfg(feature = "user")]
mod pod {
    use super::*;

    // SAFETY: sizes and offsets are asserted above; any bits are valid.
    unsafe impl<A: Address> aya::Pod for ListenerKey<A> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Shape {}
    // SAFETY: as above.
    unsafe impl<A: Address> aya::Pod for RuleEntry<A> {}
    // SAFETY: as above.
    unsafe impl<A: Address> aya::Pod for Backend<A> {}
    // SAFETY: as above.
    unsafe impl<A: Address> aya::Pod for ClientKey<A> {}
    // SAFETY: as above.
    unsafe impl<A: Address> aya::Pod for MasqueradeKey<A> {}
    // SAFETY: as above.
    unsafe impl<A: Address> aya::Pod for OutboundKey<A> {}
    // SAFETY: as above.
    unsafe impl<A: Address> aya::Pod for OwnAddress<A> {}
}

/// Bits of a whole [`ClientKey`] or [`MasqueradeKey`]: the prefix length that a look-up gives.
pub const fn full_prefix<A: Address>() -> u32 {
    SCOPE_BITS + A::BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    proptest! {
        #[test]
        fn blocks_cover_a_range_exactly_once(a in any::<u16>(), b in any::<u16>()) {
            let (first, last) = (a.min(b), a.max(b));
            let mut next = u32::from(first);
            let mut count = 0;
            for block in blocks(first, last) {
                prop_assert_eq!(u32::from(block.first), next);
                prop_assert_eq!(next % (1 << block.shift), 0);
                next += 1 << block.shift;
                count += 1;
            }
            prop_assert_eq!(next, u32::from(last) + 1);
            prop_assert!(count <= 30);
        }
    }

    #[test]
    fn the_whole_port_space_is_one_block() {
        let all: Vec<_> = blocks(0, u16::MAX).collect();
        assert_eq!(
            all,
            [Block {
                first: 0,
                shift: 16
            }]
        );
    }

    #[rstest]
    #[case::same(PORT_SAME, 0, 5005)]
    #[case::single(PORT_SINGLE, 110, 110)]
    #[case::shifted(PORT_SHIFTED, 6000, 6005)]
    fn backend_ports(#[case] port_mode: u8, #[case] port: u16, #[case] expected: u16) {
        let backend = Backend {
            address: V4::default(),
            port,
            port_mode,
            padding: 0,
        };
        assert_eq!(backend.port_for(5005, 5000), expected);
    }
}
