//! S0: a gateway with one interface, somewhere on the Internet, as are its clients and the server.
//!
//! ```text
//! client 198.51.100.7 ──┐
//!        2001:db8:51::7 │
//!                       ├── internet ── eth0 gateway 203.0.113.5
//! server 195.228.245.1 ─┤                            2001:db8:113::5
//!        2001:db8:195::1
//! ```
//!
//! The router "internet" refuses to carry packets between client and server, so whatever arrives went through the
//! gateway.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::Family;
use super::family::{address, at};
use crate::netns::{End, Namespace, Prefix, Wire, mac, mac_bytes, veth};

/// The hosts of S0.
#[derive(Debug)]
pub struct S0 {
    /// 198.51.100.7 and 2001:db8:51::7, and 8 for a second client.
    pub client: Namespace,
    /// 203.0.113.5 and 2001:db8:113::5 on `eth0`, its only interface.
    pub gateway: Namespace,
    /// 195.228.245.1 and 2001:db8:195::1.
    pub server: Namespace,
    /// The router between them; its devices are named after the hosts.
    pub internet: Namespace,
}

/// One of the three, and what it needs to know.
struct Host<'a> {
    namespace: &'a Namespace,
    name: &'a str,
    addresses: &'a [&'a str],
    routers: [&'a str; 2],
}

impl S0 {
    /// The client's address.
    pub const CLIENT: &'static str = "198.51.100.7";
    /// A second address of the client host, for rules that tell clients apart.
    pub const OTHER_CLIENT: &'static str = "198.51.100.8";
    /// The gateway's address.
    pub const GATEWAY: &'static str = "203.0.113.5";
    /// The server's address.
    pub const SERVER: &'static str = "195.228.245.1";
    /// The client's IPv6 address.
    pub const CLIENT6: &'static str = "2001:db8:51::7";
    /// A second IPv6 address of the client host.
    pub const OTHER_CLIENT6: &'static str = "2001:db8:51::8";
    /// The gateway's IPv6 address.
    pub const GATEWAY6: &'static str = "2001:db8:113::5";
    /// The server's IPv6 address.
    pub const SERVER6: &'static str = "2001:db8:195::1";
    /// The gateway's device.
    pub const DEVICE: &'static str = "eth0";

    /// The MAC address of [`S0::DEVICE`].
    pub const GATEWAY_MAC: [u8; 6] = mac_bytes(2, 2);
    /// The MAC address of the router's device towards the gateway.
    pub const ROUTER_MAC: [u8; 6] = mac_bytes(2, 1);

    /// Builds it.
    ///
    /// # Errors
    /// If a namespace, device or route cannot be made.
    pub fn build(prefix: &Prefix, wire: Wire) -> Result<Self> {
        let it = Self {
            client: Namespace::create(prefix, "client")?,
            gateway: Namespace::create(prefix, "gateway")?,
            server: Namespace::create(prefix, "server")?,
            internet: Namespace::create(prefix, "internet")?,
        };
        let hosts: [Host<'_>; 3] = [
            Host {
                namespace: &it.client,
                name: "client",
                addresses: &[
                    "198.51.100.7/24",
                    "198.51.100.8/24",
                    "2001:db8:51::7/64",
                    "2001:db8:51::8/64",
                ],
                routers: ["198.51.100.1", "2001:db8:51::fe"],
            },
            Host {
                namespace: &it.gateway,
                name: "gateway",
                addresses: &["203.0.113.5/24", "2001:db8:113::5/64"],
                routers: ["203.0.113.1", "2001:db8:113::fe"],
            },
            Host {
                namespace: &it.server,
                name: "server",
                addresses: &["195.228.245.1/24", "2001:db8:195::1/64"],
                routers: ["195.228.245.254", "2001:db8:195::fe"],
            },
        ];
        for (network, host) in (1..).zip(hosts) {
            it.connect(host, network, wire)?;
        }
        it.internet.ip(
            "rule add from 198.51.100.0/24 to 195.228.245.0/24 prohibit\n\
             rule add from 195.228.245.0/24 to 198.51.100.0/24 prohibit\n",
        )?;
        it.internet.ip6(
            "rule add from 2001:db8:51::/64 to 2001:db8:195::/64 prohibit\n\
             rule add from 2001:db8:195::/64 to 2001:db8:51::/64 prohibit\n",
        )?;
        it.internet.forward(true)?;
        Ok(it)
    }

    /// Lays the cable from a host to the router, and its default routes.
    fn connect(&self, host: Host<'_>, network: u8, wire: Wire) -> Result<()> {
        let [v4, v6] = host.routers;
        let ends = [
            End {
                namespace: host.namespace,
                device: Self::DEVICE,
                addresses: host.addresses,
            },
            End {
                namespace: &self.internet,
                device: host.name,
                addresses: &[&format!("{v4}/24"), &format!("{v6}/64")],
            },
        ];
        veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
        host.namespace.default_routes(host.routers)
    }

    /// The client's address of a family.
    #[must_use]
    pub fn client(family: Family) -> IpAddr {
        address(family, Self::CLIENT, Self::CLIENT6)
    }

    /// The second client's address of a family.
    #[must_use]
    pub fn other_client(family: Family) -> IpAddr {
        address(family, Self::OTHER_CLIENT, Self::OTHER_CLIENT6)
    }

    /// `PORT` at the gateway's address of a family.
    #[must_use]
    pub fn gateway(family: Family, port: u16) -> SocketAddr {
        at(family, Self::GATEWAY, Self::GATEWAY6, port)
    }

    /// `PORT` at the server's address of a family.
    #[must_use]
    pub fn server(family: Family, port: u16) -> SocketAddr {
        at(family, Self::SERVER, Self::SERVER6, port)
    }

    /// `PORT` at the gateway's IPv4 address.
    #[must_use]
    pub fn at_gateway(port: u16) -> SocketAddr {
        Self::gateway(Family::V4, port)
    }

    /// `PORT` at the server's IPv4 address.
    #[must_use]
    pub fn at_server(port: u16) -> SocketAddr {
        Self::server(Family::V4, port)
    }

    /// All of them, to be kept standing for instance.
    pub fn namespaces_mut(&mut self) -> [&mut Namespace; 4] {
        [
            &mut self.client,
            &mut self.gateway,
            &mut self.server,
            &mut self.internet,
        ]
    }
}
