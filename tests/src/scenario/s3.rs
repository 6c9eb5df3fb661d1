//! S3, its outside half: a gateway with two uplinks, and a mail host behind it that sees the clients' true addresses.
//!
//! ```text
//! near 198.51.100.7 ──┐            ┌── wan1 203.0.113.5 ┐
//!                     ├── internet ┤                    gateway ── lan0 10.1.0.1 ── mail 10.1.0.2
//! far 198.18.0.7 ─────┘            └── wan2 192.0.2.5 ──┘
//! ```
//!
//! Both clients reach both public addresses. The gateway's default route is by `wan1`; the router's strict
//! reverse-path check (RFC 3704, as providers have it) drops a reply that leaves by the wrong uplink.

use std::net::SocketAddr;

use anyhow::Result;

use super::Uplink;
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
            router: "203.0.113.1",
        },
        Uplink {
            device: "wan2",
            router: "192.0.2.1",
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
                end(&it.near, "eth0", &["198.51.100.7/24"]),
                end(&it.internet, "near", &["198.51.100.1/24"]),
            ],
            [
                end(&it.far, "eth0", &["198.18.0.7/24"]),
                end(&it.internet, "far", &["198.18.0.1/24"]),
            ],
            [
                end(&it.gateway, "wan1", &["203.0.113.5/24"]),
                end(&it.internet, "up1", &["203.0.113.1/24"]),
            ],
            [
                end(&it.gateway, "wan2", &["192.0.2.5/24"]),
                end(&it.internet, "up2", &["192.0.2.1/24"]),
            ],
            [
                end(&it.gateway, "lan0", &["10.1.0.1/24"]),
                end(&it.mail, "eth0", &["10.1.0.2/24"]),
            ],
        ];
        for (network, ends) in (1..).zip(cables) {
            veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
        }
        it.near.ip("route add default via 198.51.100.1")?;
        it.far.ip("route add default via 198.18.0.1")?;
        it.gateway.ip("route add default via 203.0.113.1")?;
        it.mail.ip("route add default via 10.1.0.1")?;
        it.internet.sysctl("net/ipv4/ip_forward", "1")?;
        Ok(it)
    }

    /// `PORT` at the public address of the first or second uplink.
    ///
    /// # Panics
    /// If there is no such uplink.
    #[must_use]
    pub fn public(uplink: usize, port: u16) -> SocketAddr {
        SocketAddr::from(([[203, 0, 113, 5], [192, 0, 2, 5]][uplink - 1], port))
    }
}
