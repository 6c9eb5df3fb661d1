//! What the host's network looks like, and when it changes.

mod conntrack;
mod driver;
mod features;
mod sockets;
mod sysctl;
mod watch;
mod xdp;

use std::net::IpAddr;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{
            InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
        },
    },
};

pub use conntrack::{Conntrack, Tracked};
pub use driver::{driver, has_native_xdp};
pub use features::tells as tells_xdp_features;
pub use sockets::destroy_socket;
pub use sysctl::{local_ports, set_loopback_forwarding};
pub use watch::{Change, Watch};
pub use xdp::{program as xdp_program, take_xdp_off, xdp_on};

use crate::datapath::{Address, Link, Vlan};

/// Devices and own addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every device.
    pub links: Vec<Link>,
    /// Own addresses that other hosts may know, in the kernel's order.
    pub addresses: Vec<Address>,
}

impl Network {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Netlink fails.
    pub async fn read(handle: &Handle) -> anyhow::Result<Self> {
        let features = features::read().unwrap_or_default();
        let mut network = Self::default();
        let mut links = handle.link().get().execute();
        while let Some(message) = links.try_next().await.context("cannot list devices")? {
            let mut link = link(&message);
            link.xdp_transmit = match features.as_ref() {
                Some(features) => features.contains(&link.index),
                None => driver::transmits_xdp(&link.name),
            };
            link.redirect_only = driver::is_redirect_only(&link.name);
            link.vlan = vlan(&message);
            network.links.push(link);
        }
        let mut addresses = handle.address().get().execute();
        while let Some(message) = addresses
            .try_next()
            .await
            .context("cannot list addresses")?
        {
            network.addresses.extend(address(&message));
        }
        Ok(network)
    }

    /// The device `name`.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The name of the device with `index`.
    pub fn name(&self, index: u32) -> Option<&str> {
        let link = self.links.iter().find(|link| link.index == index)?;
        Some(&link.name)
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => {
                link.mac = mac.as_slice().try_into().unwrap_or_default();
            }
            _ => {}
        }
    }
    link
}

/// The number, tag and carrier of a VLAN device.
fn vlan(message: &LinkMessage) -> Option<Vlan> {
    let mut vlan = Vlan {
        lower: 0,
        protocol: 0x8100,
        id: 0,
    };
    let mut found = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(lower) => vlan.lower = *lower,
            LinkAttribute::LinkInfo(facts) => {
                let facts = facts.iter().filter_map(|fact| match fact {
                    LinkInfo::Data(InfoData::Vlan(facts)) => Some(facts),
                    _ => None,
                });
                for fact in facts.flatten() {
                    match fact {
                        InfoVlan::Id(id) => (vlan.id, found) = (*id, true),
                        InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) => vlan.protocol = 0x88a8,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found.then_some(vlan)
}

/// An address that may be seen by other hosts. Primary are those that the kernel would choose from for
/// MASQUERADE (`inet_select_addr` in net/ipv4/devinet.c, `ipv6_dev_get_saddr` in net/ipv6/addrconf.c).
fn address(message: &AddressMessage) -> Option<Address> {
    let header = &message.header;
    if !matches!(header.scope, AddressScope::Universe | AddressScope::Site) {
        return None;
    }
    // IFA_LOCAL is the own address; IFA_ADDRESS would be the peer's on a point-to-point link. IPv6 has only
    // the latter otherwise.
    let local = message.attributes.iter().find_map(|one| match one {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|one| match one {
        AddressAttribute::Address(address @ IpAddr::V6(_)) => Some(*address),
        _ => None,
    });
    let flags = header.flags;
    // For IPv6 the "secondary" flag marks temporary addresses (RFC 8981).
    let unfit = AddressHeaderFlags::Secondary
        | AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Deprecated
        | AddressHeaderFlags::Dadfailed;
    Some(Address {
        interface: header.index,
        address: local.or(plain)?,
        prefix: header.prefix_len,
        primary: !flags.intersects(unfit),
    })
}
