//! What the programs are told of the host: devices, own addresses, ports, and that something changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use aya::maps::{MapError, lpm_trie::Key};
use forwarder_common::{
    address::V4,
    device::{Device, NO_METADATA, REDIRECT_ONLY, XDP_TRANSMIT},
    ethernet::Macs,
    rule::{MasqueradeKey, SCOPE_BITS},
    settings::Settings,
};

use super::Datapath;

/// A network device as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// MAC address; zero if it has none.
    pub mac: [u8; 6],
    /// Whether its frames start with an Ethernet header.
    pub ethernet: bool,
    /// Whether it takes frames that XDP redirects to it.
    pub xdp_transmit: bool,
    /// Whether frames that leave by it after coming in by it must be redirected there.
    pub redirect_only: bool,
}

/// An own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of its device.
    pub interface: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its subnet's prefix.
    pub prefix: u8,
}

impl Datapath {
    /// Tells the programs which devices there are.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn set_devices(&mut self, links: &[Link]) -> anyhow::Result<()> {
        let known: Vec<u32> = self.tables.devices.keys().collect::<Result<_, _>>()?;
        for link in links {
            let kept = match self.tables.devices.get(&link.index, 0) {
                Ok(device) => device.flags & NO_METADATA,
                Err(MapError::KeyNotFound) => 0,
                Err(error) => return Err(error.into()),
            };
            let device = Device {
                mtu: link.mtu,
                flags: kept
                    | flag(link.xdp_transmit, XDP_TRANSMIT)
                    | flag(link.redirect_only, REDIRECT_ONLY),
                mac: Macs::new(link.mac, [0; 6]),
            };
            self.tables.devices.insert(link.index, device, 0)?;
        }
        for gone in known {
            if !links.iter().any(|link| link.index == gone) {
                self.tables.devices.remove(&gone)?;
            }
        }
        Ok(())
    }

    /// Tells the programs which own address to masquerade with: towards a next hop on an address's subnet
    /// that address, else the device's first one. `addresses` are primary ones in the kernel's order.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn set_addresses(&mut self, addresses: &[Address]) -> anyhow::Result<()> {
        let wanted = masquerade(addresses);
        for ((prefix, interface, next_hop), address) in &wanted {
            self.tables.masquerade.insert(
                &masquerade_key(*prefix, *interface, *next_hop),
                address.octets(),
                0,
            )?;
        }
        let mut stale = Vec::new();
        for key in self.tables.masquerade.keys() {
            let key = key?;
            let data = key.data();
            let id = (key.prefix_len(), data.interface, data.next_hop.octets());
            if !wanted.contains_key(&id) {
                stale.push(id);
            }
        }
        for (prefix, interface, next_hop) in stale {
            let key = masquerade_key(prefix, interface, next_hop);
            self.tables.masquerade.remove(&key)?;
        }
        Ok(())
    }

    /// Makes every cached route be asked for again.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn bump_generation(&mut self) -> anyhow::Result<u32> {
        let mut settings = self.settings()?;
        // Never 0, which means "not asked yet".
        settings.generation = settings.generation.wrapping_add(1).max(1);
        self.set_settings(settings)?;
        Ok(settings.generation)
    }

    /// The settings record.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Ok(self.tables.settings.get(&0, 0)?)
    }

    /// Replaces the settings record.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn set_settings(&mut self, settings: Settings) -> anyhow::Result<()> {
        Ok(self.tables.settings.set(0, settings, 0)?)
    }
}

fn flag(set: bool, flag: u32) -> u32 {
    if set { flag } else { 0 }
}

/// Prefix length, device and subnet of a masquerade entry.
type MasqueradeId = (u32, u32, [u8; 4]);

fn masquerade(addresses: &[Address]) -> BTreeMap<MasqueradeId, Ipv4Addr> {
    let mut wanted = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for address in addresses {
        let prefix = u32::from(address.prefix.min(32));
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        let subnet = (u32::from(address.address) & mask).to_be_bytes();
        wanted
            .entry((SCOPE_BITS + prefix, address.interface, subnet))
            .or_insert(address.address);
        if seen.insert(address.interface) {
            wanted.insert((SCOPE_BITS, address.interface, [0; 4]), address.address);
        }
    }
    wanted
}

fn masquerade_key(prefix: u32, interface: u32, next_hop: [u8; 4]) -> Key<MasqueradeKey<V4>> {
    Key::new(
        prefix,
        MasqueradeKey {
            interface,
            next_hop: V4::new(next_hop),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_serves_next_hops_off_every_subnet() {
        let own = |interface, address: [u8; 4], prefix| Address {
            interface,
            address: address.into(),
            prefix,
        };
        let wanted = masquerade(&[
            own(2, [192, 0, 2, 1], 24),
            own(2, [198, 51, 100, 1], 25),
            own(3, [10, 0, 0, 1], 8),
        ]);
        let entries: Vec<_> = wanted
            .iter()
            .map(|((prefix, interface, subnet), address)| {
                (*prefix, *interface, *subnet, address.octets())
            })
            .collect();
        assert_eq!(
            entries,
            [
                (32, 2, [0; 4], [192, 0, 2, 1]),
                (32, 3, [0; 4], [10, 0, 0, 1]),
                (40, 3, [10, 0, 0, 0], [10, 0, 0, 1]),
                (56, 2, [192, 0, 2, 0], [192, 0, 2, 1]),
                (57, 2, [198, 51, 100, 0], [198, 51, 100, 1]),
            ]
        );
    }
}
