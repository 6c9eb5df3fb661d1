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
    /// How frames from XDP are taken.
    pub reception: Reception,
}

/// How the far end of a veth pair takes frames that XDP on the near end sends. It makes no difference to frames that
/// come from a stack or from TC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Not at all: a veth device as it is made. The kernel drops them, or says beforehand that it would.
    Plain,
    /// Redirected ones, thanks to NAPI (which GRO switches on), but not those of XDP_TX.
    Napi,
    /// All of them, thanks to a program, as a real card would.
    Program,
}

impl Wire {
    /// As a cable between two machines: every frame complete, of wire size, and taken.
    pub const CABLE: Self = Self {
        mtu: 1500,
        checksum_offload: false,
        reception: Reception::Program,
    };

    /// As between two containers: super-packets with partial checksums.
    pub const VIRTUAL: Self = Self {
        mtu: 1500,
        checksum_offload: true,
        reception: Reception::Plain,
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
/// The near end is the one a forwarder may attach to: only the far end gets a program of ours.
///
/// # Errors
/// If a device of that name exists, an address is bad, or an offload cannot be switched.
pub fn veth([near, far]: [End<'_>; 2], macs: [&str; 2], wire: Wire) -> Result<()> {
    near.namespace.ip(&format!(
        "link add {} mtu {mtu} address {} type veth peer name {} mtu {mtu} address {} netns {}",
        near.device,
        macs[0],
        far.device,
        macs[1],
        far.namespace.name(),
        mtu = wire.mtu,
    ))?;
    for end in [near, far] {
        end.prepare(wire)?;
    }
    if wire.reception == Reception::Program {
        far.namespace.pass_xdp(far.device)?;
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
        namespace.set_feature(device, Feature::Gro, wire.reception != Reception::Plain)
    }
}

fn address_line(address: &str, device: &str) -> String {
    // An address under duplicate detection cannot be used for a second.
    let nodad = if address.contains(':') { " nodad" } else { "" };
    format!("addr add {address} dev {device}{nodad}\n")
}
