//! The flow table: one entry for each direction of a translated connection.

use core::mem::offset_of;

use crate::{
    address::{Address, V4, V6},
    checksum::Delta,
    ethernet::Macs,
    tcp::Seen,
};

/// The five-tuple of one direction, as its packets arrive: the key of the flow tables.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port, network byte order.
    pub source_port_be: u16,
    /// Destination port, network byte order.
    pub destination_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    padding: [u8; 3],
}

impl<A: Copy> FlowKey<A> {
    /// A key with its padding zeroed, as map look-ups compare it.
    #[inline(always)]
    pub const fn new(
        source: A,
        destination: A,
        source_port_be: u16,
        destination_port_be: u16,
        protocol: u8,
    ) -> Self {
        Self {
            source,
            destination,
            source_port_be,
            destination_port_be,
            protocol,
            padding: [0; 3],
        }
    }

    /// Both ports as one word.
    #[inline(always)]
    pub const fn ports(&self) -> u32 {
        (self.source_port_be as u32) << 16 | self.destination_port_be as u32
    }

    /// The same tuple seen from the other end.
    #[inline(always)]
    pub const fn reversed(&self) -> Self {
        Self::new(
            self.destination,
            self.source,
            self.destination_port_be,
            self.source_port_be,
            self.protocol,
        )
    }
}

/// The new addresses and ports of one direction, with what the change does to checksums.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<A> {
    /// New source address.
    pub source: A,
    /// New destination address.
    pub destination: A,
    /// New source port, network byte order.
    pub source_port_be: u16,
    /// New destination port, network byte order.
    pub destination_port_be: u16,
    /// Change of the sum over both addresses: IP header and pseudo-header.
    pub addresses: Delta,
    /// Change of the sum over both ports: transport header.
    pub ports: Delta,
}

impl<A: Address> Rewrite<A> {
    /// The rewrite that turns packets of `from` into packets of `to`.
    #[inline(always)]
    pub fn between(from: &FlowKey<A>, to: &FlowKey<A>) -> Self {
        Self {
            source: to.source,
            destination: to.destination,
            source_port_be: to.source_port_be,
            destination_port_be: to.destination_port_be,
            addresses: from
                .source
                .change(to.source)
                .then(from.destination.change(to.destination)),
            ports: Delta::of_word(from.source_port_be, to.source_port_be).then(Delta::of_word(
                from.destination_port_be,
                to.destination_port_be,
            )),
        }
    }
}

impl<A: Copy> Rewrite<A> {
    /// The tuple that packets of `protocol` carry after this rewrite.
    #[inline(always)]
    pub const fn key(&self, protocol: u8) -> FlowKey<A> {
        FlowKey::new(
            self.source,
            self.destination,
            self.source_port_be,
            self.destination_port_be,
            protocol,
        )
    }
}

/// Where packets of one direction leave: a cache of the kernel's answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Index of the device they leave by.
    pub egress: u32,
    /// The [`crate::settings::Settings::generation`] this was asked under; another one means "ask again".
    pub generation: u32,
    /// How the frame begins: the next hop's MAC, then the egress device's.
    pub macs: Macs,
    /// Largest IP packet in bytes that the way takes; 65535 for "no limit".
    pub mtu: u16,
    /// The egress device's [`crate::device::Device::flags`].
    pub device: u16,
}

impl Route {
    /// A route under `generation`.
    #[inline(always)]
    pub const fn new(egress: u32, generation: u32, macs: Macs, mtu: u16, device: u16) -> Self {
        Self {
            egress,
            generation,
            macs,
            mtu,
            device,
        }
    }
}

/// One direction of a flow: all that is needed to send a packet of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEntry<A> {
    /// New addresses and ports.
    pub rewrite: Rewrite<A>,
    /// The way out.
    pub route: Route,
    /// Packets of this direction. Not atomic: the packets of one direction arrive on one CPU, and where
    /// they do not, a lost count is the price.
    pub packets: u64,
    /// Bytes of this direction, counted from the IP header as conntrack does.
    pub bytes: u64,
    /// [`Macs::arrival_mark`] of the way its packets come in by; 0 before the first.
    pub arrival: u32,
    /// `bpf_jiffies64` when the last packet came, low 32 bits.
    pub last_seen: u32,
    /// `bpf_jiffies64` when the flow was made, in units of [`CREATED_UNIT`] jiffies.
    pub created: u32,
    /// Slot of the rule that made the flow.
    pub rule: u32,
    /// What this direction has seen of TCP's handshake and end.
    pub seen: Seen,
    /// [`REPLY`], [`DELIVER`], [`EMIT`], [`ENDED`].
    pub flags: u8,
    /// What TCP's maximum segment size is lowered to, see [`crate::rule::RuleEntry::mss`].
    pub mss: u16,
    /// Zero.
    pub padding: [u8; 4],
}

/// [`FlowEntry::flags`]: packets from the backend.
pub const REPLY: u8 = 1;
/// [`FlowEntry::flags`]: packets go to this host's own stack instead of out of a device.
pub const DELIVER: u8 = 2;
/// [`FlowEntry::flags`]: packets come from this host's own stack; one that comes in by a device is none of
/// them.
pub const EMIT: u8 = 4;
/// [`FlowEntry::flags`]: the flow was ended from outside. Whoever still sends on it is told so.
pub const ENDED: u8 = 8;
/// Jiffies in one unit of [`FlowEntry::created`]: a quarter of a second at 1000 Hz, wrapping after years.
pub const CREATED_UNIT: u64 = 256;

impl<A: Copy> FlowEntry<A> {
    /// The key of the other direction's entry.
    #[inline(always)]
    pub const fn other_key(&self, protocol: u8) -> FlowKey<A> {
        self.rewrite.key(protocol).reversed()
    }

    /// Whether this is the direction of packets from the client.
    #[inline(always)]
    pub const fn is_original(&self) -> bool {
        self.flags & REPLY == 0
    }

    /// Whether all of `flags` are set.
    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether packets leave by a device after having come in by one.
    #[inline(always)]
    pub const fn is_forwarded(&self) -> bool {
        self.flags & (DELIVER | EMIT) == 0
    }
}

const _: () = {
    assert!(size_of::<FlowKey<V4>>() == 16);
    assert!(offset_of!(FlowKey<V4>, protocol) == 12);
    assert!(size_of::<FlowKey<V6>>() == 40);
    assert!(size_of::<Rewrite<V4>>() == 16);
    assert!(size_of::<Rewrite<V6>>() == 40);
    assert!(size_of::<FlowEntry<V6>>() == 104);
    assert!(size_of::<Route>() == 24);
    assert!(size_of::<FlowEntry<V4>>() == 80);
    assert!(offset_of!(FlowEntry<V4>, route) == 16);
    assert!(offset_of!(FlowEntry<V4>, packets) == 40);
    assert!(offset_of!(FlowEntry<V4>, arrival) == 56);
    assert!(offset_of!(FlowEntry<V4>, rule) == 68);
    assert!(offset_of!(FlowEntry<V4>, seen) == 72);
};

// SAFETY: `repr(C)` over integers with explicit padding (asserted above); any bits are valid.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for FlowKey<A> {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl<A: Address> aya::Pod for FlowEntry<A> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_direction_is_found_from_the_rewrite() {
        let original = FlowKey::new(V4::from_raw(1), V4::from_raw(2), 10, 20, 6);
        let translated = FlowKey::new(V4::from_raw(3), V4::from_raw(4), 30, 40, 6);
        let entry = FlowEntry {
            rewrite: Rewrite::between(&original, &translated),
            ..FlowEntry::default()
        };
        assert_eq!(
            entry.other_key(6),
            FlowKey::new(V4::from_raw(4), V4::from_raw(3), 40, 30, 6)
        );
    }
}
