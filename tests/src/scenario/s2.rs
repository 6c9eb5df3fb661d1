//! S2: a LAN with private addresses behind the gateway, whose hosts may reach mail and DNS outside and nothing else.
//!
//! ```text
//! one 10.0.0.7 ─┐                                                  ┌── mail 198.51.100.25
//!               ├── eth1 10.0.0.1 gateway 203.0.113.5 eth0 ── internet
//! two 10.0.0.8 ─┘                                                  └── dns 192.0.2.53
//! ```
//!
//! In IPv6: clients fd00::7 and fd00::8, gateway fd00::1 and 2001:db8:113::5, mail 2001:db8:51::25, dns
//! 2001:db8:2::53. The networks 198.18.0.0/24 and 2001:db8:18::/64 are routed to the gateway, for pools.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::Family;
use super::family::{address, at};
use crate::netns::{End, Namespace, Prefix, Switch, Wire, mac, veth};

/// The hosts of S2.
#[derive(Debug)]
pub struct S2 {
    /// 10.0.0.7 and fd00::7.
    pub one: Namespace,
    /// 10.0.0.8 and fd00::8.
    pub two: Namespace,
    /// What the clients and the gateway are plugged into.
    pub lan: Switch,
    /// `eth0` outside and `eth1` inside.
    pub gateway: Namespace,
    /// 198.51.100.25 and 2001:db8:51::25.
    pub mail: Namespace,
    /// 192.0.2.53 and 2001:db8:2::53.
    pub dns: Namespace,
    /// The router outside; it has no route to the LAN.
    pub internet: Namespace,
}

impl S2 {
    /// The gateway's device outside.
    pub const OUTSIDE: &'static str = "eth0";
    /// The gateway's device towards the LAN.
    pub const INSIDE: &'static str = "eth1";

    /// Builds it.
    ///
    /// # Errors
    /// If a namespace, device or route cannot be made.
    pub fn build(prefix: &Prefix, wire: Wire) -> Result<Self> {
        let it = Self {
            one: Namespace::create(prefix, "one")?,
            two: Namespace::create(prefix, "two")?,
            lan: Switch::create(prefix, "lan")?,
            gateway: Namespace::create(prefix, "gateway")?,
            mail: Namespace::create(prefix, "mail")?,
            dns: Namespace::create(prefix, "dns")?,
            internet: Namespace::create(prefix, "internet")?,
        };
        it.plug(wire)?;
        it.connect(wire)?;
        it.internet.ip("route add 198.18.0.0/24 via 203.0.113.5\n\
             route add 2001:db8:18::/64 via 2001:db8:113::5\n")?;
        it.internet.forward(true)?;
        Ok(it)
    }

    /// The LAN.
    fn plug(&self, wire: Wire) -> Result<()> {
        let hosts: [(&Namespace, &str, &str, &[&str]); 3] = [
            (
                &self.gateway,
                Self::INSIDE,
                "gateway",
                &["10.0.0.1/24", "fd00::1/64"],
            ),
            (&self.one, "eth0", "one", &["10.0.0.7/24", "fd00::7/64"]),
            (&self.two, "eth0", "two", &["10.0.0.8/24", "fd00::8/64"]),
        ];
        for (number, (namespace, device, port, addresses)) in (1..).zip(hosts) {
            let end = End {
                namespace,
                device,
                addresses,
            };
            self.lan
                .plug(end, port, [&mac(1, number), &mac(2, number)], wire)?;
        }
        for client in [&self.one, &self.two] {
            client.default_routes(["10.0.0.1", "fd00::1"])?;
        }
        Ok(())
    }

    /// The outside.
    fn connect(&self, wire: Wire) -> Result<()> {
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let cables: [([End<'_>; 2], [&str; 2]); 3] = [
            (
                [
                    end(
                        &self.gateway,
                        Self::OUTSIDE,
                        &["203.0.113.5/24", "2001:db8:113::5/64"],
                    ),
                    end(
                        &self.internet,
                        "gateway",
                        &["203.0.113.1/24", "2001:db8:113::fe/64"],
                    ),
                ],
                ["203.0.113.1", "2001:db8:113::fe"],
            ),
            (
                [
                    end(
                        &self.mail,
                        "eth0",
                        &["198.51.100.25/24", "2001:db8:51::25/64"],
                    ),
                    end(
                        &self.internet,
                        "mail",
                        &["198.51.100.1/24", "2001:db8:51::fe/64"],
                    ),
                ],
                ["198.51.100.1", "2001:db8:51::fe"],
            ),
            (
                [
                    end(&self.dns, "eth0", &["192.0.2.53/24", "2001:db8:2::53/64"]),
                    end(
                        &self.internet,
                        "dns",
                        &["192.0.2.1/24", "2001:db8:2::fe/64"],
                    ),
                ],
                ["192.0.2.1", "2001:db8:2::fe"],
            ),
        ];
        for (network, (ends, routers)) in (3..).zip(cables) {
            veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
            ends[0].namespace.default_routes(routers)?;
        }
        Ok(())
    }

    /// The first client's address.
    #[must_use]
    pub fn one(family: Family) -> IpAddr {
        address(family, "10.0.0.7", "fd00::7")
    }

    /// The second client's address.
    #[must_use]
    pub fn two(family: Family) -> IpAddr {
        address(family, "10.0.0.8", "fd00::8")
    }

    /// `PORT` at the mail host's address.
    #[must_use]
    pub fn mail(family: Family, port: u16) -> SocketAddr {
        at(family, "198.51.100.25", "2001:db8:51::25", port)
    }

    /// `PORT` at the name server's address.
    #[must_use]
    pub fn dns(family: Family, port: u16) -> SocketAddr {
        at(family, "192.0.2.53", "2001:db8:2::53", port)
    }

    /// `PORT` at the gateway's address towards the LAN.
    #[must_use]
    pub fn inside(family: Family, port: u16) -> SocketAddr {
        at(family, "10.0.0.1", "fd00::1", port)
    }

    /// `PORT` at the gateway's address outside.
    #[must_use]
    pub fn outside(family: Family, port: u16) -> SocketAddr {
        at(family, "203.0.113.5", "2001:db8:113::5", port)
    }
}
