//! S0: a gateway with one interface, somewhere on the Internet, as are its clients and the server.
//!
//! ```text
//! client 198.51.100.7 ──┐
//!                       ├── internet ── eth0 gateway 203.0.113.5
//! server 195.228.245.1 ─┘
//! ```
//!
//! The router "internet" refuses to carry packets between client and server, so whatever arrives went through the
//! gateway.

use std::net::SocketAddr;

use anyhow::Result;

use crate::netns::{End, Namespace, Prefix, Wire, mac, mac_bytes, veth};

/// The hosts of S0.
#[derive(Debug)]
pub struct S0 {
    /// 198.51.100.7, and .8 for a second client.
    pub client: Namespace,
    /// 203.0.113.5 on `eth0`, its only interface.
    pub gateway: Namespace,
    /// 195.228.245.1.
    pub server: Namespace,
    /// The router between them; its devices are named after the hosts.
    pub internet: Namespace,
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
        let hosts: [(&Namespace, &str, &[&str], &str); 3] = [
            (
                &it.client,
                "client",
                &["198.51.100.7/24", "198.51.100.8/24"],
                "198.51.100.1",
            ),
            (&it.gateway, "gateway", &["203.0.113.5/24"], "203.0.113.1"),
            (
                &it.server,
                "server",
                &["195.228.245.1/24"],
                "195.228.245.254",
            ),
        ];
        for (network, (host, name, addresses, router)) in (1..).zip(hosts) {
            let ends = [
                End {
                    namespace: host,
                    device: Self::DEVICE,
                    addresses,
                },
                End {
                    namespace: &it.internet,
                    device: name,
                    addresses: &[&format!("{router}/24")],
                },
            ];
            veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
            host.ip(&format!("route add default via {router}"))?;
        }
        it.internet.ip(
            "rule add from 198.51.100.0/24 to 195.228.245.0/24 prohibit\n\
             rule add from 195.228.245.0/24 to 198.51.100.0/24 prohibit\n",
        )?;
        it.internet.sysctl("net/ipv4/ip_forward", "1")?;
        Ok(it)
    }

    /// `PORT` at the gateway's address.
    #[must_use]
    pub fn at_gateway(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 5], port))
    }

    /// `PORT` at the server's address.
    #[must_use]
    pub fn at_server(port: u16) -> SocketAddr {
        SocketAddr::from(([195, 228, 245, 1], port))
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
