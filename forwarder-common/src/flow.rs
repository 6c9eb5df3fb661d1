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

/// The new addresses and ports of one direction.
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
}

/// What a rewrite does to checksums.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Change of the sum over both addresses: IP header and pseudo-header.
    pub addresses: Delta,
    /// Change of the sum over both ports: transport header.
    pub ports: Delta,
}

impl<A: Address> Rewrite<A> {
    /// What it changes in packets of `from`.
    #[inline(always)]
    pub fn change(&self, from: &FlowKey<A>) -> Change {
        Change {
            addresses: Delta::of_sum(
                from.source.difference(self.source) + from.destination.difference(self.destination),
            ),
            ports: Delta::of_long(
                words(from.source_port_be, from.destination_port_be),
                words(self.source_port_be, self.destination_port_be),
            ),
        }
    }
}

/// Two ports as the one word that loading them gives, but for the order of its halves, which no sum minds.
#[inline(always)]
const fn words(one: u16, other: u16) -> u32 {
    (one as u32) << 16 | other as u32
}

impl<A: Copy> Rewrite<A> {
    /// The rewrite that turns packets into packets of `to`.
    #[inline(always)]
    pub const fn to(to: &FlowKey<A>) -> Self {
        Self {
            source: to.source,
            destination: to.destination,
            source_port_be: to.source_port_be,
            destination_port_be: to.destination_port_be,
        }
    }

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

/// A device to leave by, with what must be known of it, in one word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Egress(u32);

impl Egress {
    /// Device indices are below this: the kernel counts them up from one.
    pub const INDICES: u32 = 1 << 28;

    /// The device `index`, below [`Egress::INDICES`], that has these [`crate::device::Device::flags`]. Only the lowest
    /// four of them are kept.
    #[inline(always)]
    pub const fn new(index: u32, flags: u32) -> Self {
        Self(flags << 28 | index & (Self::INDICES - 1))
    }

    /// The device's index; 0 for none.
    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0 & (Self::INDICES - 1)
    }

    /// The device's [`crate::device::Device::flags`].
    #[inline(always)]
    pub const fn flags(self) -> u32 {
        self.0 >> 28
    }

    /// Whether the device has `flag`.
    #[inline(always)]
    pub const fn has(self, flag: u32) -> bool {
        self.0 & (flag << 28) != 0
    }
}

/// Where packets of one direction leave: a cache of the kernel's answer, see [`FlowEntry::proof`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The device they leave by.
    pub egress: Egress,
    /// How the frame begins: the next hop's MAC, then the egress device's.
    pub macs: Macs,
    /// Largest IP packet in bytes that the way takes; 65535 for "no limit".
    pub mtu: u16,
    /// What TCP's maximum segment size is lowered to, see [`crate::rule::RuleEntry::mss`]. The rule's word, not the
    /// kernel's.
    pub mss: u16,
}

impl Route {
    /// Takes another way; the segment size stays the rule's.
    #[inline(always)]
    pub const fn renew(&mut self, way: Self) {
        *self = Self {
            mss: self.mss,
            ..way
        };
    }

    /// Whether packets that take it go the same way as by `other`.
    #[inline(always)]
    pub fn leads_as(&self, other: &Self) -> bool {
        self.egress == other.egress && self.macs == other.macs && self.mtu == other.mtu
    }
}

/// One direction of a flow: all that is needed to send a packet of it. For IPv4 a line of cache.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEntry<A> {
    /// New addresses and ports.
    pub rewrite: Rewrite<A>,
    /// Digest of the way by which its packets come in and of the [`crate::settings::Settings::generation`] that
    /// [`FlowEntry::route`] was asked under, see [`Macs::proof`]: a packet with another one has them looked at anew. 0
    /// for "not asked yet".
    pub proof: u32,
    /// The way out.
    pub route: Route,
    /// `bpf_jiffies64` when the last packet came, low 32 bits.
    pub last_seen: u32,
    /// Bytes of this direction, counted from the IP header as conntrack does.
    pub bytes: u64,
    /// Packets of this direction, the lower part of 48 bits: see [`FlowEntry::packets`].
    pub packets_low: u32,
    /// The upper part.
    pub packets_high: u16,
    /// What this direction has seen of TCP's handshake and end.
    pub seen: Seen,
    /// [`REPLY`], [`DELIVER`], [`EMIT`], [`ENDED`], [`SHADOW`].
    pub flags: u8,
    /// `bpf_jiffies64` when the flow was made, in units of [`CREATED_UNIT`] jiffies.
    pub created: u32,
    /// Slot of the rule that made the flow.
    pub rule: u32,
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
/// [`FlowEntry::flags`]: packets are counted, and left to the kernel untouched, to the flow's end. Its
/// [`FlowEntry::proof`] stays 0, so that packets of other flows need not ask for this.
pub const SHADOW: u8 = 16;
/// Jiffies in one unit of [`FlowEntry::created`]: a quarter of a second at 1000 Hz, wrapping after years.
pub const CREATED_UNIT: u64 = 256;

impl<A: Copy> FlowEntry<A> {
    /// Packets of this direction.
    #[inline(always)]
    pub const fn packets(&self) -> u64 {
        (self.packets_high as u64) << 32 | self.packets_low as u64
    }

    /// Counts so many packets of so many bytes. In 48 bits a hundred million packets a second are counted for a month.
    /// Not atomic: the packets of one direction arrive on one CPU, and where they do not, a lost count is the price.
    #[inline(always)]
    pub const fn count(&mut self, packets: u32, bytes: u64) {
        self.packets_low = self.packets_low.wrapping_add(packets);
        if self.packets_low < packets {
            self.packets_high = self.packets_high.wrapping_add(1);
        }
        self.bytes += bytes;
    }

    /// The same of a flow whose tuples are held otherwise.
    pub fn map<B>(self, address: impl Fn(A) -> B) -> FlowEntry<B> {
        FlowEntry {
            rewrite: Rewrite {
                source: address(self.rewrite.source),
                destination: address(self.rewrite.destination),
                source_port_be: self.rewrite.source_port_be,
                destination_port_be: self.rewrite.destination_port_be,
            },
            proof: self.proof,
            route: self.route,
            last_seen: self.last_seen,
            bytes: self.bytes,
            packets_low: self.packets_low,
            packets_high: self.packets_high,
            seen: self.seen,
            flags: self.flags,
            created: self.created,
            rule: self.rule,
        }
    }

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
    assert!(size_of::<Rewrite<V4>>() == 12);
    assert!(size_of::<Rewrite<V6>>() == 36);
    assert!(size_of::<Route>() == 20);
    assert!(size_of::<FlowEntry<V4>>() == 64);
    assert!(offset_of!(FlowEntry<V4>, route) == 16);
    assert!(offset_of!(FlowEntry<V4>, bytes) == 40);
    assert!(offset_of!(FlowEntry<V4>, seen) == 54);
    assert!(offset_of!(FlowEntry<V4>, rule) == 60);
    assert!(size_of::<FlowEntry<V6>>() == 88);
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
    fn packets_are_counted_beyond_32_bits() {
        let mut entry = FlowEntry::<V4>::default();
        entry.count(u32::MAX, 7);
        for expected in [1 << 32, (1 << 32) + 1] {
            entry.count(1, 1);
            assert_eq!(entry.packets(), expected);
        }
        entry.count(u32::MAX, 0);
        assert_eq!((entry.packets(), entry.bytes), (1 << 33, 9));
    }

    #[test]
    fn a_device_and_its_flags_share_a_word() {
        let egress = Egress::new(Egress::INDICES - 1, 0xa);
        assert_eq!((egress.index(), egress.flags()), (Egress::INDICES - 1, 0xa));
        assert!(egress.has(8) && egress.has(2) && !egress.has(4) && !egress.has(1));
    }

    #[test]
    fn the_other_direction_is_found_from_the_rewrite() {
        let translated = FlowKey::new(V4::from_raw(3), V4::from_raw(4), 30, 40, 6);
        let entry = FlowEntry {
            rewrite: Rewrite::to(&translated),
            ..FlowEntry::default()
        };
        assert_eq!(
            entry.other_key(6),
            FlowKey::new(V4::from_raw(4), V4::from_raw(3), 40, 30, 6)
        );
    }
}
