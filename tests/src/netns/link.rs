//! veth pairs between namespaces.

use anyhow::Result;

use super::{Feature, Namespace};

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it lives.
    pub namespace: &'a Namespace,
    /// Its name there.
    pub device: &'a str,
    /// Addresses with their prefix lengths, `203.0.113.5/24`.
    pub addresses: &'a [&'a str],
}

/// What the pair is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Leave checksums (and, with them, segmentation) to the device: what bulk TCP between veths likes and XDP
    /// cannot take, as the checksums it sees are partial.
    pub checksum_offload: bool,
}

impl Wire {
    /// As a cable between two machines: every frame complete and of wire size.
    pub const CABLE: Self = Self {
        mtu: 1500,
        checksum_offload: false,
    };

    /// As between two containers: super-packets with partial checksums.
    pub const VIRTUAL: Self = Self {
        mtu: 1500,
        checksum_offload: true,
    };
}

/// A locally administered MAC address that is the same in every run: `02:00:00:00:` and two bytes.
#[must_use]
pub fn mac(network: u8, host: u8) -> String {
    format!("02:00:00:00:{network:02x}:{host:02x}")
}

/// The same address as bytes, for frames made by hand.
#[must_use]
pub const fn mac_bytes(network: u8, host: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, network, host]
}

/// Connects two namespaces. `macs` are the hardware addresses of the two ends; [`mac`] makes them.
///
/// Both ends get NAPI (by way of GRO), because either may be the one that XDP on the other sends to.
///
/// # Errors
/// If a device of that name exists, an address is bad, or an offload cannot be switched.
pub fn veth(ends: [End<'_>; 2], macs: [&str; 2], wire: Wire) -> Result<()> {
    let [here, there] = ends;
    here.namespace.ip(&format!(
        "link add {} mtu {mtu} address {} type veth peer name {} mtu {mtu} address {} netns {}",
        here.device,
        macs[0],
        there.device,
        macs[1],
        there.namespace.name(),
        mtu = wire.mtu,
    ))?;
    for end in ends {
        end.prepare(wire)?;
    }
    Ok(())
}

impl End<'_> {
    fn prepare(&self, wire: Wire) -> Result<()> {
        let Self {
            namespace,
            device,
            addresses,
        } = *self;
        if addresses.iter().any(|address| address.contains(':')) {
            namespace.sysctl(&format!("net/ipv6/conf/{device}/disable_ipv6"), "0")?;
        }
        let mut lines: String = addresses
            .iter()
            .map(|address| address_line(address, device))
            .collect();
        lines += &format!("link set {device} up\n");
        namespace.ip(&lines)?;
        namespace.set_feature(device, Feature::TxChecksum, wire.checksum_offload)?;
        namespace.set_feature(device, Feature::Gro, true)
    }
}

fn address_line(address: &str, device: &str) -> String {
    // An address under duplicate detection cannot be used for a second.
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("addr add {address} dev {device}{nodad}\n")
}
