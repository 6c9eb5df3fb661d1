//! The network of every rig: a generator, a gateway and a sink in a row.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tests::netns::mac_bytes;

/// Both families' addresses of one thing.
pub type Pair = (Ipv4Addr, Ipv6Addr);

/// Who has which address.
pub struct Net;

impl Net {
    /// Clients, from here on; behind the generator.
    pub const CLIENTS: Pair = (
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1),
    );
    /// The next hop to the clients.
    pub const GENERATOR: Pair = (
        Ipv4Addr::new(192, 0, 2, 2),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
    );
    /// The gateway's address that clients know.
    pub const LISTENER: Pair = (
        Ipv4Addr::new(192, 0, 2, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
    );
    /// The gateway's address that the backend knows.
    pub const GATEWAY: Pair = (
        Ipv4Addr::new(198, 51, 100, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1),
    );
    /// The backend, which is the sink.
    pub const BACKEND: Pair = (
        Ipv4Addr::new(198, 51, 100, 2),
        Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2),
    );
    /// An address behind the sink that no rule is about.
    pub const FOREIGN: Pair = (
        Ipv4Addr::new(203, 0, 113, 1),
        Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1),
    );

    /// The first port of the listeners.
    pub const PORT: u16 = 10_000;

    /// The gateway's devices.
    pub const IN: &'static str = "in0";
    /// See `IN`.
    pub const OUT: &'static str = "out0";
    /// The generator's device.
    pub const GENERATOR_DEVICE: &'static str = "gen0";
    /// The sink's device.
    pub const SINK_DEVICE: &'static str = "sink0";

    /// MACs, in the order of the way.
    pub const GENERATOR_MAC: [u8; 6] = mac_bytes(1, 2);
    /// See `GENERATOR_MAC`.
    pub const ROUTER_IN_MAC: [u8; 6] = mac_bytes(1, 1);
    /// See `GENERATOR_MAC`.
    pub const ROUTER_OUT_MAC: [u8; 6] = mac_bytes(2, 1);
    /// See `GENERATOR_MAC`.
    pub const SINK_MAC: [u8; 6] = mac_bytes(2, 2);

    /// One of the two.
    #[must_use]
    pub fn pick(v6: bool, pair: Pair) -> IpAddr {
        if v6 { pair.1.into() } else { pair.0.into() }
    }

    /// The last four bytes.
    #[must_use]
    pub fn low(v6: bool, pair: Pair) -> u32 {
        match Self::pick(v6, pair) {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => (address.to_bits() & u128::from(u32::MAX)) as u32,
        }
    }
}
