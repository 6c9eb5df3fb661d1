//! A gateway with a router behind it, so that errors and limits on the way can come from three places.
//!
//! ```text
//! client 203.0.113.7 ── wan0 gateway lan0 10.1.0.1 ── upper router lower 10.2.0.1 ── server 10.2.0.2
//! 2001:db8:113::7             2001:db8:a::1                   2001:db8:b::1          2001:db8:b::2
//! ```
//!
//! The gateway is 203.0.113.5 and 2001:db8:113::5 on `wan0`, the router 10.1.0.2 and 2001:db8:a::2 on `upper`.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::family::{address, at};
use super::{Engine, Family, GatewayConfig, Rig, Rule};
use crate::netns::{End, Namespace, Prefix, Wire, mac, mac_bytes, veth};

/// The hosts of a chain.
#[derive(Debug)]
pub struct Chain {
    /// 203.0.113.7.
    pub client: Namespace,
    /// `wan0` and `lan0`.
    pub gateway: Namespace,
    /// `upper` and `lower`.
    pub router: Namespace,
    /// 10.2.0.2.
    pub server: Namespace,
}

impl Chain {
    /// The gateway's devices.
    pub const DEVICES: [&'static str; 2] = ["wan0", "lan0"];
    /// The MAC address of the client.
    pub const CLIENT_MAC: [u8; 6] = mac_bytes(1, 1);
    /// The MAC address of `wan0`.
    pub const WAN_MAC: [u8; 6] = mac_bytes(1, 2);
    /// The MAC address of `lan0`.
    pub const LAN_MAC: [u8; 6] = mac_bytes(2, 2);
    /// The MAC address of the router's device `upper`.
    pub const UP_MAC: [u8; 6] = mac_bytes(2, 1);
    /// The MAC address of the router's device `down`.
    pub const DOWN_MAC: [u8; 6] = mac_bytes(3, 2);
    /// The MAC address of the server.
    pub const SERVER_MAC: [u8; 6] = mac_bytes(3, 1);

    /// Builds it. `mtu` is that of the links client to gateway and gateway to router.
    ///
    /// # Errors
    /// If a namespace, device or route cannot be made.
    pub fn build(prefix: &Prefix, [wan, lan]: [u32; 2]) -> Result<Self> {
        let it = Self {
            client: Namespace::create(prefix, "client")?,
            gateway: Namespace::create(prefix, "gateway")?,
            router: Namespace::create(prefix, "router")?,
            server: Namespace::create(prefix, "server")?,
        };
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let cables = [
            (
                end(
                    &it.gateway,
                    "wan0",
                    &["203.0.113.5/24", "2001:db8:113::5/64"],
                ),
                end(
                    &it.client,
                    "eth0",
                    &["203.0.113.7/24", "2001:db8:113::7/64"],
                ),
                wan,
            ),
            (
                end(&it.gateway, "lan0", &["10.1.0.1/24", "2001:db8:a::1/64"]),
                end(&it.router, "upper", &["10.1.0.2/24", "2001:db8:a::2/64"]),
                lan,
            ),
            (
                end(&it.router, "lower", &["10.2.0.1/24", "2001:db8:b::1/64"]),
                end(&it.server, "eth0", &["10.2.0.2/24", "2001:db8:b::2/64"]),
                Wire::CABLE.mtu,
            ),
        ];
        for (network, (near, far, mtu)) in (1..).zip(cables) {
            let wire = Wire { mtu, ..Wire::CABLE };
            veth([near, far], [&mac(network, 2), &mac(network, 1)], wire)?;
        }
        it.router.default_routes(["10.1.0.1", "2001:db8:a::1"])?;
        it.server.default_routes(["10.2.0.1", "2001:db8:b::1"])?;
        it.gateway.ip("route add 10.2.0.0/24 via 10.1.0.2\n\
             route add 2001:db8:b::/64 via 2001:db8:a::2\n")?;
        it.router.forward(true)?;
        for namespace in [&it.client, &it.gateway, &it.router, &it.server] {
            // A second error within the second would not be sent.
            namespace.sysctl("net/ipv4/icmp_ratelimit", "0")?;
            namespace.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        }
        Ok(it)
    }

    /// Lets the router send no more than this at a time to the server. The device itself takes more, so that TCP's
    /// segment size does not tell.
    ///
    /// # Errors
    /// If the routes cannot be replaced.
    pub fn narrow(&self, mtu: u32) -> Result<()> {
        self.router
            .ip(&format!(
                "route replace 10.2.0.0/24 dev lower mtu lock {mtu}\n\
                 route del 2001:db8:b::/64 dev lower\n\
                 route add 2001:db8:b::/64 dev lower metric 256 mtu lock {mtu}\n"
            ))
            .map(drop)
    }

    /// The client's address of a family.
    #[must_use]
    pub fn client(family: Family) -> IpAddr {
        address(family, "203.0.113.7", "2001:db8:113::7")
    }

    /// `PORT` at the gateway's outer address.
    #[must_use]
    pub fn gateway(family: Family, port: u16) -> SocketAddr {
        at(family, "203.0.113.5", "2001:db8:113::5", port)
    }

    /// `PORT` at the gateway's inner address.
    #[must_use]
    pub fn inside(family: Family, port: u16) -> SocketAddr {
        at(family, "10.1.0.1", "2001:db8:a::1", port)
    }

    /// The router's address on the gateway's side.
    #[must_use]
    pub fn router(family: Family) -> IpAddr {
        address(family, "10.1.0.2", "2001:db8:a::2")
    }

    /// `PORT` at the server.
    #[must_use]
    pub fn server(family: Family, port: u16) -> SocketAddr {
        at(family, "10.2.0.2", "2001:db8:b::2", port)
    }
}

impl Rig<Chain> {
    /// A chain with complete frames of wire size.
    ///
    /// # Errors
    /// If it cannot be built or the gateway does not start.
    pub fn chain(engine: Engine, rules: &[Rule]) -> Result<Self> {
        Self::chain_on([Wire::CABLE.mtu; 2], engine, rules)
    }

    /// The same with MTUs of the caller's choice, see [`Chain::build`].
    ///
    /// # Errors
    /// As [`Rig::chain`].
    pub fn chain_on(mtu: [u32; 2], engine: Engine, rules: &[Rule]) -> Result<Self> {
        let config = GatewayConfig {
            interfaces: Chain::DEVICES.to_vec(),
            rules: rules.to_vec(),
            ..GatewayConfig::default()
        };
        Self::start(engine, Chain::build(&Prefix::unique(), mtu)?, &config)
    }
}
