//! Several hosts on one link.

use anyhow::Result;

use super::{End, Namespace, Prefix, Wire, veth};

/// An Ethernet switch, in a namespace of its own; dropping it takes it away.
#[derive(Debug)]
pub struct Switch(Namespace);

impl Switch {
    const BRIDGE: &'static str = "br0";

    /// Makes one without cables.
    ///
    /// # Errors
    /// If the namespace or the bridge cannot be made.
    pub fn create(prefix: &Prefix, role: &str) -> Result<Self> {
        let namespace = Namespace::create(prefix, role)?;
        let bridge = Self::BRIDGE;
        // No spanning tree and no snooping: ports carry everything from the first frame on.
        namespace.ip(&format!(
            "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {bridge} up\n"
        ))?;
        Ok(Self(namespace))
    }

    /// Lays a cable from a host to the port of a given name. `macs` are the host's and the port's.
    ///
    /// # Errors
    /// As [`veth`].
    pub fn plug(&self, host: End<'_>, port: &str, macs: [&str; 2], wire: Wire) -> Result<()> {
        let far = End {
            namespace: &self.0,
            device: port,
            addresses: &[],
        };
        veth([host, far], macs, wire)?;
        self.0
            .ip(&format!("link set {port} master {}", Self::BRIDGE))
            .map(drop)
    }

    /// Where it is, to look at what its ports carry.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.0
    }
}
