//! S4: a mail host for which port 25 is filtered on the way, so that mail comes and goes by port 986.
//!
//! ```text
//! client 198.51.100.7 ─┐
//!                      ├── internet ── eth0 gateway 203.0.113.5 and .6 ── eth1 10.0.0.1 ── inside 10.0.0.7
//! relay 192.0.2.7 ─────┘
//! ```
//!
//! In IPv6: client 2001:db8:51::7, relay 2001:db8:2::7, gateway 2001:db8:113::5, inside 2001:db8:a::7. The router
//! knows the way to the host inside, so that the gateway may forward it untouched.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::Family;
use super::family::{address, at};
use crate::netns::{End, Namespace, Prefix, Wire, mac, veth};

/// The hosts of S4.
#[derive(Debug)]
pub struct S4 {
    /// 198.51.100.7 and 2001:db8:51::7.
    pub client: Namespace,
    /// 192.0.2.7 and 2001:db8:2::7.
    pub relay: Namespace,
    /// The mail host: `eth0` outside, `eth1` inside.
    pub gateway: Namespace,
    /// 10.0.0.7 and 2001:db8:a::7.
    pub inside: Namespace,
    /// The router.
    pub internet: Namespace,
}

impl S4 {
    /// The gateway's device outside.
    pub const OUTSIDE: &'static str = "eth0";
    /// The gateway's device inside.
    pub const INSIDE: &'static str = "eth1";
    /// The gateway's second IPv4 address.
    pub const SECOND: &'static str = "203.0.113.6";

    /// Builds it.
    ///
    /// # Errors
    /// If a namespace, device or route cannot be made.
    pub fn build(prefix: &Prefix, wire: Wire) -> Result<Self> {
        let it = Self {
            client: Namespace::create(prefix, "client")?,
            relay: Namespace::create(prefix, "relay")?,
            gateway: Namespace::create(prefix, "gateway")?,
            inside: Namespace::create(prefix, "inside")?,
            internet: Namespace::create(prefix, "internet")?,
        };
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let public = &["203.0.113.5/24", "203.0.113.6/24", "2001:db8:113::5/64"];
        let cables: [[End<'_>; 2]; 4] = [
            [
                end(
                    &it.client,
                    "eth0",
                    &["198.51.100.7/24", "2001:db8:51::7/64"],
                ),
                end(
                    &it.internet,
                    "client",
                    &["198.51.100.1/24", "2001:db8:51::fe/64"],
                ),
            ],
            [
                end(&it.relay, "eth0", &["192.0.2.7/24", "2001:db8:2::7/64"]),
                end(
                    &it.internet,
                    "relay",
                    &["192.0.2.1/24", "2001:db8:2::fe/64"],
                ),
            ],
            [
                end(&it.gateway, Self::OUTSIDE, public),
                end(
                    &it.internet,
                    "gateway",
                    &["203.0.113.1/24", "2001:db8:113::fe/64"],
                ),
            ],
            [
                end(
                    &it.gateway,
                    Self::INSIDE,
                    &["10.0.0.1/24", "2001:db8:a::1/64"],
                ),
                end(&it.inside, "eth0", &["10.0.0.7/24", "2001:db8:a::7/64"]),
            ],
        ];
        for (network, ends) in (1..).zip(cables) {
            veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
        }
        for (host, routers) in [
            (&it.client, ["198.51.100.1", "2001:db8:51::fe"]),
            (&it.relay, ["192.0.2.1", "2001:db8:2::fe"]),
            (&it.gateway, ["203.0.113.1", "2001:db8:113::fe"]),
            (&it.inside, ["10.0.0.1", "2001:db8:a::1"]),
        ] {
            host.default_routes(routers)?;
        }
        it.internet.ip("route add 10.0.0.0/24 via 203.0.113.5\n\
             route add 2001:db8:a::/64 via 2001:db8:113::5\n")?;
        it.internet.forward(true)?;
        Ok(it)
    }

    /// `PORT` at the gateway's first address outside.
    #[must_use]
    pub fn gateway(family: Family, port: u16) -> SocketAddr {
        at(family, "203.0.113.5", "2001:db8:113::5", port)
    }

    /// `PORT` at the gateway's address inside.
    #[must_use]
    pub fn router(family: Family, port: u16) -> SocketAddr {
        at(family, "10.0.0.1", "2001:db8:a::1", port)
    }

    /// `PORT` at the relay's address.
    #[must_use]
    pub fn relay(family: Family, port: u16) -> SocketAddr {
        at(family, "192.0.2.7", "2001:db8:2::7", port)
    }

    /// The client's address.
    #[must_use]
    pub fn client(family: Family) -> IpAddr {
        address(family, "198.51.100.7", "2001:db8:51::7")
    }

    /// The address of the host inside.
    #[must_use]
    pub fn inside(family: Family) -> IpAddr {
        address(family, "10.0.0.7", "2001:db8:a::7")
    }
}
