//! Network addresses as map keys and packets hold them.

use core::{
    fmt::Debug,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::checksum::Delta;

/// An address of one family, in network byte order, as it stands in a packet.
///
/// Everything generic over the family is written once, over this trait.
pub trait Address: Copy + Eq + Debug + Default + 'static {
    /// `AF_INET` or `AF_INET6`, as `bpf_fib_lookup` wants it.
    const FAMILY: u8;
    /// Prefix length of a single host.
    const BITS: u32;

    /// The address plus `offset`, counted in host order: how a pool of addresses is indexed.
    fn offset(self, offset: u32) -> Self;
    /// How many addresses lie from `self` to `last`, both included, saturating.
    fn span(self, last: Self) -> u32;
    /// A 32-bit digest for choosing among backends and pool addresses.
    fn digest(self) -> u32;

    /// Products with odd `factors`, added up: what a hash by multiplication takes its upper bits from.
    fn scatter(self, factors: [u64; 2]) -> u64;

    /// True for the address of zeros, which stands for "any" in listener keys.
    fn is_unspecified(self) -> bool;

    /// False for what no packet on the wire may carry as one host's address beyond its own link.
    fn is_one_host(self) -> bool;

    /// What must be added to a one's-complement sum when `to` takes the place of `self`, not folded: at most eight
    /// words of 32 bits.
    fn difference(self, to: Self) -> u64;

    /// The change of a one's-complement sum when `to` takes the place of `self`.
    #[inline(always)]
    fn change(self, to: Self) -> Delta {
        Delta::of_sum(self.difference(to))
    }
}

/// An IPv4 address: the four octets in wire order, held as the native integer that loading them gives.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V4(u32);

impl V4 {
    /// From the four octets of a packet.
    #[inline(always)]
    pub const fn new(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The four octets in wire order.
    #[inline(always)]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The native integer that loading the octets gives: what checksum arithmetic and BPF helpers take.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The inverse of [`V4::raw`].
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self::new(address.octets())
    }
}

impl From<V4> for Ipv4Addr {
    fn from(address: V4) -> Self {
        address.octets().into()
    }
}

impl Address for V4 {
    const FAMILY: u8 = 2;
    const BITS: u32 = 32;

    #[inline(always)]
    fn offset(self, offset: u32) -> Self {
        Self(u32::from_be(self.0).wrapping_add(offset).to_be())
    }

    #[inline(always)]
    fn span(self, last: Self) -> u32 {
        u32::from_be(last.0)
            .wrapping_sub(u32::from_be(self.0))
            .saturating_add(1)
    }

    #[inline(always)]
    fn digest(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn scatter(self, factors: [u64; 2]) -> u64 {
        u64::from(self.0).wrapping_mul(factors[0])
    }

    #[inline(always)]
    fn is_unspecified(self) -> bool {
        self.0 == 0
    }

    /// Not 0.0.0.0, 127.0.0.0/8, 224.0.0.0/4 or 255.255.255.255 (RFC 1122 section 3.2.1.3; what
    /// `ip_route_input_slow` in net/ipv4/route.c calls martian).
    #[inline(always)]
    fn is_one_host(self) -> bool {
        let host = u32::from_be(self.0);
        host != 0 && host >> 24 != 127 && host >> 28 != 0xe && host != u32::MAX
    }

    #[inline(always)]
    fn difference(self, to: Self) -> u64 {
        u64::from(!self.0) + u64::from(to.0)
    }
}

/// An IPv6 address: the sixteen octets in wire order, held as four natively loaded words.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V6([u32; 4]);

impl V6 {
    /// From the sixteen octets of a packet.
    pub const fn new(octets: [u8; 16]) -> Self {
        let mut words = [0; 4];
        let mut index = 0;
        while index < 4 {
            let at = index * 4;
            words[index] =
                u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
            index += 1;
        }
        Self(words)
    }

    /// The sixteen octets in wire order.
    pub const fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        let mut index = 0;
        while index < 16 {
            octets[index] = self.0[index / 4].to_ne_bytes()[index % 4];
            index += 1;
        }
        octets
    }

    /// The four words that loading the octets gives: what BPF helpers take.
    #[inline(always)]
    pub const fn raw(self) -> [u32; 4] {
        self.0
    }

    /// The inverse of [`V6::raw`].
    #[inline(always)]
    pub const fn from_raw(raw: [u32; 4]) -> Self {
        Self(raw)
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        Self::new(address.octets())
    }
}

impl From<V6> for Ipv6Addr {
    fn from(address: V6) -> Self {
        address.octets().into()
    }
}

impl Address for V6 {
    const FAMILY: u8 = 10;
    const BITS: u32 = 128;

    /// Within the lower half: pools are small.
    #[inline(always)]
    fn offset(self, offset: u32) -> Self {
        let [a, b, high, low] = self.0;
        let (low, carry) = u32::from_be(low).overflowing_add(offset);
        let high = u32::from_be(high).wrapping_add(carry as u32);
        Self([a, b, high.to_be(), low.to_be()])
    }

    #[inline(always)]
    fn span(self, last: Self) -> u32 {
        u32::from_be(last.0[3])
            .wrapping_sub(u32::from_be(self.0[3]))
            .saturating_add(1)
    }

    #[inline(always)]
    fn digest(self) -> u32 {
        let [a, b, c, d] = self.0;
        a ^ b.rotate_left(8) ^ c.rotate_left(16) ^ d
    }

    #[inline(always)]
    fn scatter(self, factors: [u64; 2]) -> u64 {
        let [a, b, c, d] = self.0.map(u64::from);
        let prefix = (b << 32 | a).wrapping_mul(factors[0]);
        prefix.wrapping_add((d << 32 | c).wrapping_mul(factors[1]))
    }

    #[inline(always)]
    fn is_unspecified(self) -> bool {
        self.0 == [0; 4]
    }

    /// Not the unspecified and loopback addresses, multicast (ff00::/8) or link-local (fe80::/10), which
    /// routers do not forward (RFC 4291 section 2.5).
    #[inline(always)]
    fn is_one_host(self) -> bool {
        let [first, b, c, d] = self.0;
        let top = u32::from_be(first);
        let lowest = first | b | c == 0 && u32::from_be(d) <= 1;
        !lowest && top >> 24 != 0xff && top >> 22 != 0xfe80 >> 6
    }

    #[inline(always)]
    fn difference(self, to: Self) -> u64 {
        let [a, b, c, d] = self.0.map(|word| u64::from(!word));
        let [e, f, g, h] = to.0.map(u64::from);
        a + b + c + d + e + f + g + h
    }
}

// SAFETY: transparent over an integer.
#[cfg(feature = "user")]
unsafe impl aya::Pod for V4 {}
// SAFETY: transparent over integers.
#[cfg(feature = "user")]
unsafe impl aya::Pod for V6 {}

/// Spreads `value` over 32 bits (the finaliser of MurmurHash3), so that neighbouring clients and ports
/// do not choose neighbouring backends.
#[inline(always)]
pub const fn mix(value: u32) -> u32 {
    let mut hash = value;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_indexed_in_host_order() {
        let first = V4::from(Ipv4Addr::new(192, 0, 2, 254));
        let last = V4::from(Ipv4Addr::new(192, 0, 3, 1));
        assert_eq!(first.span(last), 4);
        assert_eq!(Ipv4Addr::from(first.offset(2)), Ipv4Addr::new(192, 0, 3, 0));
    }

    #[test]
    fn martian_addresses_are_no_host() {
        for (address, expected) in [
            ([224, 0, 0, 1], false),
            ([239, 255, 255, 255], false),
            ([255, 255, 255, 255], false),
            ([127, 0, 0, 1], false),
            ([0, 0, 0, 0], false),
            ([0, 0, 0, 1], true),
            ([223, 255, 255, 255], true),
            ([240, 0, 0, 1], true),
        ] {
            assert_eq!(V4::new(address).is_one_host(), expected);
        }
        for (address, expected) in [
            ("::", false),
            ("::1", false),
            ("::2", true),
            ("ff02::1", false),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
        ] {
            let address: Ipv6Addr = address.parse().unwrap();
            assert_eq!(V6::from(address).is_one_host(), expected, "{address}");
            assert_eq!(Ipv6Addr::from(V6::from(address)), address);
        }
    }

    #[test]
    fn an_ipv6_pool_carries_into_the_next_word() {
        let address = |text: &str| V6::from(text.parse::<Ipv6Addr>().unwrap());
        let first = address("2001:db8::ffff:ffff");
        assert_eq!(first.offset(1), address("2001:db8::1:0:0"));
        assert_eq!(first.span(address("2001:db8::1:0:3")), 5);
    }
}
