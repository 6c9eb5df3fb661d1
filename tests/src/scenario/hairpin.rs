//! S3, its inside half: hosts behind the gateway use the mail host's public address as those outside do.
//!
//! ```text
//! outside 203.0.113.7 ── bond0 203.0.113.5 ┐            ┌── mail 10.1.0.2
//!                                       gateway ── bond1 10.1.0.1
//!        staff 10.2.0.7 ── bond2 10.2.0.1 ┘             └── neighbour 10.1.0.9
//! ```
//!
//! In IPv6: outside 2001:db8:113::7, public 2001:db8:113::5, mail 2001:db8:a::2, neighbour 2001:db8:a::9, staff
//! 2001:db8:b::7. The mail host would answer its neighbour directly, so the gateway has to stand between them.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::Family;
use super::family::{address, at};
use crate::netns::{End, Namespace, Prefix, Switch, Wire, mac, veth};

/// The hosts of S3's inside half.
#[derive(Debug)]
pub struct Hairpin {
    /// 203.0.113.7 and 2001:db8:113::7.
    pub outside: Namespace,
    /// `bond0` outside, `bond1` and `bond2` inside.
    pub gateway: Namespace,
    /// What mail host, neighbour and gateway are plugged into.
    pub lan: Switch,
    /// 10.1.0.2 and 2001:db8:a::2.
    pub mail: Namespace,
    /// 10.1.0.9 and 2001:db8:a::9, in the mail host's subnet.
    pub neighbour: Namespace,
    /// 10.2.0.7 and 2001:db8:b::7, in another subnet inside.
    pub staff: Namespace,
}

impl Hairpin {
    /// The gateway's devices, the outside one first.
    pub const DEVICES: [&'static str; 3] = ["bond0", "bond1", "bond2"];

    /// Builds it.
    ///
    /// # Errors
    /// If a namespace, device or route cannot be made.
    pub fn build(prefix: &Prefix, wire: Wire) -> Result<Self> {
        let it = Self {
            outside: Namespace::create(prefix, "outside")?,
            gateway: Namespace::create(prefix, "gateway")?,
            lan: Switch::create(prefix, "lan")?,
            mail: Namespace::create(prefix, "mail")?,
            neighbour: Namespace::create(prefix, "neighbour")?,
            staff: Namespace::create(prefix, "staff")?,
        };
        let end = |namespace, device, addresses| End {
            namespace,
            device,
            addresses,
        };
        let [bond0, bond1, bond2] = Self::DEVICES;
        let cables = [
            [
                end(
                    &it.gateway,
                    bond0,
                    &["203.0.113.5/24", "2001:db8:113::5/64"],
                ),
                end(
                    &it.outside,
                    "eth0",
                    &["203.0.113.7/24", "2001:db8:113::7/64"],
                ),
            ],
            [
                end(&it.gateway, bond2, &["10.2.0.1/24", "2001:db8:b::1/64"]),
                end(&it.staff, "eth0", &["10.2.0.7/24", "2001:db8:b::7/64"]),
            ],
        ];
        for (network, ends) in (1..).zip(cables) {
            veth(ends, [&mac(network, 2), &mac(network, 1)], wire)?;
        }
        let plugs = [
            (
                "gateway",
                end(&it.gateway, bond1, &["10.1.0.1/24", "2001:db8:a::1/64"]),
            ),
            (
                "mail",
                end(&it.mail, "eth0", &["10.1.0.2/24", "2001:db8:a::2/64"]),
            ),
            (
                "neighbour",
                end(&it.neighbour, "eth0", &["10.1.0.9/24", "2001:db8:a::9/64"]),
            ),
        ];
        for (number, (port, end)) in (1..).zip(plugs) {
            it.lan
                .plug(end, port, [&mac(3, number), &mac(4, number)], wire)?;
        }
        for host in [&it.mail, &it.neighbour] {
            host.default_routes(["10.1.0.1", "2001:db8:a::1"])?;
        }
        it.staff.default_routes(["10.2.0.1", "2001:db8:b::1"])?;
        Ok(it)
    }

    /// `PORT` at the public address.
    #[must_use]
    pub fn public(family: Family, port: u16) -> SocketAddr {
        at(family, "203.0.113.5", "2001:db8:113::5", port)
    }

    /// `PORT` at the mail host's address.
    #[must_use]
    pub fn mail(family: Family, port: u16) -> SocketAddr {
        at(family, "10.1.0.2", "2001:db8:a::2", port)
    }

    /// The address of the client outside.
    #[must_use]
    pub fn outside(family: Family) -> IpAddr {
        address(family, "203.0.113.7", "2001:db8:113::7")
    }

    /// The address of the client in another subnet inside.
    #[must_use]
    pub fn staff(family: Family) -> IpAddr {
        address(family, "10.2.0.7", "2001:db8:b::7")
    }

    /// The gateway's address in the mail host's subnet.
    #[must_use]
    pub fn router(family: Family) -> IpAddr {
        address(family, "10.1.0.1", "2001:db8:a::1")
    }
}
