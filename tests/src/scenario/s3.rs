//! S3, its outside half: a gateway with two uplinks, and a mail host behind it that sees the clients' true addresses.
//!
//! ```text
//! near 198.51.100.7 ──┐            ┌── wan1 203.0.113.5 ┐
//!                     ├── internet ┤                    gateway ── lan0 10.1.0.1 ── mail 10.1.0.2
//! far 198.18.0.7 ─────┘            └── wan2 192.0.2.5 ──┘
//! ```
//!
//! In IPv6: near 2001:db8:51::7, far 2001:db8:18::7, uplinks 2001:db8:113::5 and 2001:db8:2::5, mail 2001:db8:a::2.
//!
//! Both clients reach both public addresses. The gateway's default route is by `wan1`; the router's strict
//! reverse-path check (RFC 3704, as providers have it) drops a reply that leaves by the wrong uplink.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::family::{address, at};
use super::{Family, Uplink};
use crate::netns::{End, Namespace, Prefix, Wire, mac, veth};

/// The hosts of S3.
#[derive(Debug)]
pub struct S3 {
    /// 198.51.100.7.
    pub near: Namespace,
    /// 198.18.0.7.
    pub far: Namespace,
    /// `wan1`, `wan2` and `lan0`.
    pub gateway: Namespace,
    /// 10.1.0.2, with the gateway as its default route.
    pub mail: Namespace,
    /// The router between clients and uplinks; its devices are `near`, `far`, `up1` and `up2`.
    pub internet: Namespace,
}

impl S3 {
    /// The two uplinks, for iptables' policy routing.
    pub const UPLINKS: [Uplink; 2] = [
        Uplink {
            device: "wan1",
            routers: ["203.0.113.1", "2001:db8:113::fe"],
        },
        Uplink {
            device: "wan2",
            routers: ["192.0.2.1", "2001:db8:2::fe"],
        },
    ];

    /// Builds it.
    ///
    /// # Errors
    /// If a namespace, device or route cannot be made.
    pub fn build(prefix: &Prefix, wire: Wire) -> Result<Self> {
        let it = Self {
            near: Namespace::create(prefix, "near")?,
            far: Namespace::create(prefix, "far")?,
            gateway: Namespace::create(prefix, "gateway")?,
            mail: Namespace::create(prefix, "mail")?,
            internet: Namespace::create(prefix, "internet")?,
        };
        // Set before the devices exist: they take it over from "default".
        it.internet.sysctl("net/ipv4/conf/default/rp_filter", "1")?;
        it.gateway.sysctl("net/ipv4/conf/default/rp_filter", "0")?;
        it.gateway.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let cables = [
            [
                end(&it.near, "eth0", &["198.51.100.7/24", "2001:db8:51::7/64"]),
                end(
                    &it.internet,
                    "near",
                    &["198.51.100.1/24", "2001:db8:51::fe/64"],
                ),
            ],
            [
                end(&it.far, "eth0", &["198.18.0.7/24", "2001:db8:18::7/64"]),
                end(
                    &it.internet,
                    "far",
                    &["198.18.0.1/24", "2001:db8:18::fe/64"],
                ),
            ],
            [
                end(
                    &it.gateway,
                    "wan1",
                    &["203.0.113.5/24", "2001:db8:113::5/64"],
                ),
                end(
                    &it.internet,
                    "up1",
                    &["203.0.113.1/24", "2001:db8:113::fe/64"],
                ),
            ],
            [
                end(&it.gateway, "wan2", &["192.0.2.5/24", "2001:db8:2::5/64"]),
                end(&it.internet, "up2", &["192.0.2.1/24", "2001:db8:2::fe/64"]),
            ],
            [
                end(&it.gateway, "lan0", &["10.1.0.1/24", "2001:db8:a::1/64"]),
                end(&it.mail, "eth0", &["10.1.0.2/24", "2001:db8:a::2/64"]),
            ],
        ];
        for (network, ends) in (1..).zip(cables) {
            veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
        }
        for (host, routers) in [
            (&it.near, ["198.51.100.1", "2001:db8:51::fe"]),
            (&it.far, ["198.18.0.1", "2001:db8:18::fe"]),
            (&it.gateway, Self::UPLINKS[0].routers),
            (&it.mail, ["10.1.0.1", "2001:db8:a::1"]),
        ] {
            host.default_routes(routers)?;
        }
        // IPv6 has no rp_filter.
        it.internet.ip6(
            "rule add iif up1 from 2001:db8:2::/64 blackhole\n\
             rule add iif up2 from 2001:db8:113::/64 blackhole\n",
        )?;
        it.internet.forward(true)?;
        Ok(it)
    }

    /// `PORT` at the public IPv4 address of the first or second uplink.
    ///
    /// # Panics
    /// If there is no such uplink.
    #[must_use]
    pub fn public(uplink: usize, port: u16) -> SocketAddr {
        Self::public_of(Family::V4, uplink, port)
    }

    /// `PORT` at the public address of a family of the first or second uplink.
    ///
    /// # Panics
    /// If there is no such uplink.
    #[must_use]
    pub fn public_of(family: Family, uplink: usize, port: u16) -> SocketAddr {
        let v4 = ["203.0.113.5", "192.0.2.5"][uplink - 1];
        let v6 = ["2001:db8:113::5", "2001:db8:2::5"][uplink - 1];
        at(family, v4, v6, port)
    }

    /// `PORT` at the mail host's address.
    #[must_use]
    pub fn mail(family: Family, port: u16) -> SocketAddr {
        at(family, "10.1.0.2", "2001:db8:a::2", port)
    }

    /// The address of the client `near`.
    #[must_use]
    pub fn near(family: Family) -> IpAddr {
        address(family, "198.51.100.7", "2001:db8:51::7")
    }

    /// The address of the client `far`.
    #[must_use]
    pub fn far(family: Family) -> IpAddr {
        address(family, "198.18.0.7", "2001:db8:18::7")
    }
}
