//! Network addresses as map keys and packets hold them.

use core::{fmt::Debug, net::Ipv4Addr};

/// An address of one family, in network byte order, as it stands in a packet.
///
/// Everything generic over the family is written once, over this trait.
pub trait Address: Copy + Eq + Debug + Default {
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

    /// True for 0.0.0.0, which stands for "any" in listener keys.
    #[inline(always)]
    pub const fn is_unspecified(self) -> bool {
        self.0 == 0
    }

    /// False for what no packet on the wire may carry as one host's address: 0.0.0.0, 127.0.0.0/8,
    /// 224.0.0.0/4 and 255.255.255.255 (RFC 1122 section 3.2.1.3; what `ip_route_input_slow` in
    /// net/ipv4/route.c calls martian).
    #[inline(always)]
    pub const fn is_one_host(self) -> bool {
        let host = u32::from_be(self.0);
        host != 0 && host >> 24 != 127 && host >> 28 != 0xe && host != u32::MAX
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
}

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
    }
}
