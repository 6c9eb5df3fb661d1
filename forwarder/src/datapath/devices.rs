//! What the programs are told of the host: devices, own addresses, ports, and that something changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aya::maps::{MapError, lpm_trie::Key};
use forwarder_common::{
    device::{Device, LEAVING, NO_METADATA, REDIRECT_ONLY, SHADOW, TAGGED, VlanKey, XDP_TRANSMIT},
    ethernet::Macs,
    parse::Tag,
    port::Ports,
    rule::{MasqueradeKey, OwnAddress, SCOPE_BITS},
    settings::Settings,
};
use ipnet::IpNet;

use super::{Datapath, family::Family, tables::FamilyTables};

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
    /// Whether flows that begin here are only watched.
    pub shadow: bool,
    /// For a VLAN device, whose frames travel on another one.
    pub vlan: Option<Vlan>,
}

/// What makes a device a VLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Index of the device that carries its frames.
    pub lower: u32,
    /// EtherType of its tag: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// Its number.
    pub id: u16,
}

impl Vlan {
    fn tag(self) -> Tag {
        Tag {
            protocol: self.protocol.to_be(),
            id: self.id,
        }
    }
}

/// An own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of its device.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet's prefix.
    pub prefix: u8,
    /// Whether it is one to masquerade with: the kernel would choose it by itself.
    pub primary: bool,
}

impl Datapath {
    /// Which devices are to serve the flows that they have and no new ones, from the next
    /// [`Datapath::set_devices`] on.
    pub fn set_leaving(&mut self, indices: impl IntoIterator<Item = u32>) {
        self.leaving = indices.into_iter().collect();
    }

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
            // What XDP may do with a VLAN device is what it may do with the one that carries its frames.
            let lower = link.vlan.map(|vlan| vlan.lower);
            let carrier = lower
                .and_then(|lower| links.iter().find(|one| one.index == lower))
                .unwrap_or(link);
            let device = Device {
                mtu: link.mtu,
                flags: kept
                    | flag(carrier.xdp_transmit, XDP_TRANSMIT)
                    | flag(carrier.redirect_only, REDIRECT_ONLY)
                    | flag(lower.is_some(), TAGGED)
                    | flag(link.shadow, SHADOW)
                    | flag(self.leaving.contains(&link.index), LEAVING),
                mac: Macs::new(link.mac, [0; 6]),
                lower: lower.unwrap_or(0),
                tag: link.vlan.map(Vlan::tag).unwrap_or_default(),
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

    /// Tells the programs which tagged frames belong to which of the VLAN devices `served`.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn set_vlans(&mut self, served: &[Link]) -> anyhow::Result<()> {
        let mut wanted = BTreeMap::new();
        for link in served {
            if let Some(vlan) = link.vlan {
                wanted.insert((vlan.lower, vlan.protocol, vlan.id), link.index);
            }
        }
        let key = |(lower, protocol, id)| {
            let (protocol, id) = (u16::to_be(protocol), id);
            VlanKey {
                lower,
                tag: Tag { protocol, id },
            }
        };
        for (id, index) in &wanted {
            self.tables.vlans.insert(key(*id), index, 0)?;
        }
        let known: Vec<VlanKey> = self.tables.vlans.keys().collect::<Result<_, _>>()?;
        for known in known {
            if !wanted.keys().any(|id| key(*id) == known) {
                self.tables.vlans.remove(&known)?;
            }
        }
        Ok(())
    }

    /// Tells the programs which addresses are this host's, and which of them to masquerade with: towards a
    /// next hop on an address's subnet that address, else the device's first one. `addresses` are in the
    /// kernel's order.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn set_addresses(&mut self, addresses: &[Address]) -> anyhow::Result<()> {
        self.tables.v4.set_addresses(addresses)?;
        self.tables.v6.set_addresses(addresses)
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

    /// How many source ports translation may give.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn source_ports(&self) -> anyhow::Result<u32> {
        Ok(Ports::new(&self.settings()?).count())
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

impl<A: Family> FamilyTables<A> {
    fn set_addresses(&mut self, addresses: &[Address]) -> anyhow::Result<()> {
        let of_family = |address: &&Address| A::of(address.address).is_some();
        let addresses: Vec<_> = addresses.iter().filter(of_family).copied().collect();
        let wanted = masquerade(&addresses);
        for (id, own) in &wanted {
            let own = OwnAddress {
                address: A::of(own.address).unwrap_or_default(),
                on_link: u32::from(own.on_link),
            };
            self.masquerade.insert(&masquerade_key(id), own, 0)?;
        }
        let mut stale = Vec::new();
        for key in self.masquerade.keys() {
            let key = key?;
            let data = key.data();
            let id = (key.prefix_len(), data.interface, data.next_hop.ip());
            if !wanted.contains_key(&id) {
                stale.push(id);
            }
        }
        for id in stale {
            self.masquerade.remove(&masquerade_key(&id))?;
        }
        self.set_own(&addresses)
    }

    fn set_own(&mut self, addresses: &[Address]) -> anyhow::Result<()> {
        let wanted: BTreeSet<IpAddr> = addresses.iter().flat_map(heard).collect();
        for address in &wanted {
            let address = A::of(*address).unwrap_or_default();
            self.own.insert(address, 1, 0)?;
        }
        let known: Vec<A> = self.own.keys().collect::<Result<_, _>>()?;
        for address in known {
            if !wanted.contains(&address.ip()) {
                self.own.remove(&address)?;
            }
        }
        Ok(())
    }
}

/// The destinations that an own address makes this host's: itself, and over IPv4 its subnet's broadcasts.
fn heard(address: &Address) -> Vec<IpAddr> {
    let mut heard = vec![address.address];
    if let Ok(IpNet::V4(subnet)) = IpNet::new(address.address, address.prefix)
        && address.prefix < 31
    {
        heard.extend([subnet.broadcast(), subnet.network()].map(IpAddr::V4));
    }
    heard
}

/// Prefix length, device and subnet of a masquerade entry.
type MasqueradeId = (u32, u32, IpAddr);

/// Value of a masquerade entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Own {
    address: IpAddr,
    on_link: bool,
}

fn masquerade(addresses: &[Address]) -> BTreeMap<MasqueradeId, Own> {
    let mut wanted = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for address in addresses.iter().filter(|address| address.primary) {
        let Ok(subnet) = IpNet::new(address.address, address.prefix) else {
            continue;
        };
        let subnet = subnet.trunc();
        let id = |length: u8, network| (SCOPE_BITS + u32::from(length), address.interface, network);
        wanted
            .entry(id(address.prefix, subnet.network()))
            .or_insert(Own {
                address: address.address,
                on_link: true,
            });
        if seen.insert(address.interface) {
            let any = match address.address {
                IpAddr::V4(_) => IpAddr::V4([0; 4].into()),
                IpAddr::V6(_) => IpAddr::V6([0; 16].into()),
            };
            wanted.entry(id(0, any)).or_insert(Own {
                address: address.address,
                on_link: false,
            });
        }
    }
    wanted
}

fn masquerade_key<A: Family>(id: &MasqueradeId) -> Key<MasqueradeKey<A>> {
    let (prefix, interface, next_hop) = *id;
    let next_hop = A::of(next_hop).unwrap_or_default();
    Key::new(
        prefix,
        MasqueradeKey {
            interface,
            next_hop,
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
            primary: true,
        };
        let wanted = masquerade(&[
            own(2, [192, 0, 2, 1], 24),
            own(2, [198, 51, 100, 1], 25),
            own(3, [10, 0, 0, 1], 8),
        ]);
        let ip = |octets: [u8; 4]| IpAddr::from(octets);
        let entries: Vec<_> = wanted
            .iter()
            .map(|((prefix, interface, subnet), own)| {
                (*prefix, *interface, *subnet, own.address, own.on_link)
            })
            .collect();
        assert_eq!(
            entries,
            [
                (32, 2, ip([0; 4]), ip([192, 0, 2, 1]), false),
                (32, 3, ip([0; 4]), ip([10, 0, 0, 1]), false),
                (40, 3, ip([10, 0, 0, 0]), ip([10, 0, 0, 1]), true),
                (56, 2, ip([192, 0, 2, 0]), ip([192, 0, 2, 1]), true),
                (57, 2, ip([198, 51, 100, 0]), ip([198, 51, 100, 1]), true),
            ]
        );
    }
}
