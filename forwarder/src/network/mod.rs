//! What the host's network looks like, and when it changes.

mod driver;
mod features;
mod sysctl;
mod watch;

use std::net::IpAddr;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkLayerType, LinkMessage},
    },
};

pub use driver::{driver, has_native_xdp};
pub use sysctl::{local_ports, set_loopback_forwarding};
pub use watch::{Change, Watch};

use crate::datapath::{Address, Link};

/// Devices and own addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every device.
    pub links: Vec<Link>,
    /// Primary IPv4 addresses of global or site scope, in the kernel's order.
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

/// A primary IPv4 address that may be seen by other hosts; what `inet_select_addr` (net/ipv4/devinet.c)
/// chooses from for MASQUERADE.
fn address(message: &AddressMessage) -> Option<Address> {
    let header = &message.header;
    let secondary = header.flags.contains(AddressHeaderFlags::Secondary);
    if secondary || !matches!(header.scope, AddressScope::Universe | AddressScope::Site) {
        return None;
    }
    // IFA_LOCAL is the own address; IFA_ADDRESS would be the peer's on a point-to-point link.
    let local = message.attributes.iter().find_map(|one| match one {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some(Address {
        interface: header.index,
        address: local,
        prefix: header.prefix_len,
    })
}
