//! Addresses of either family, as userspace holds them and as the tables do.

use std::{hash::Hash, net::IpAddr};

use forwarder_common::{
    address::{V4, V6},
    flow::{FlowEntry, FlowKey},
    network::Network,
};

/// An address family of the tables.
pub(super) trait Family: Network + aya::Pod + Hash {
    /// How its maps are called: `FLOWS_V4`.
    const SUFFIX: &'static str;

    /// The address, if it is of this family.
    fn of(address: IpAddr) -> Option<Self>;

    /// The address as userspace holds it.
    fn ip(self) -> IpAddr;

    /// A tuple as userspace holds it.
    fn key(key: &FlowKey<Self>) -> FlowKey<IpAddr> {
        FlowKey::new(
            key.source.ip(),
            key.destination.ip(),
            key.source_port_be,
            key.destination_port_be,
            key.protocol,
        )
    }

    /// A tuple as the tables hold it, if it is of this family.
    fn of_key(key: &FlowKey<IpAddr>) -> Option<FlowKey<Self>> {
        Some(FlowKey::new(
            Self::of(key.source)?,
            Self::of(key.destination)?,
            key.source_port_be,
            key.destination_port_be,
            key.protocol,
        ))
    }

    /// An entry as userspace holds it.
    fn entry(entry: &FlowEntry<Self>) -> FlowEntry<IpAddr> {
        entry.map(Self::ip)
    }
}

impl Family for V4 {
    const SUFFIX: &'static str = "V4";

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn ip(self) -> IpAddr {
        IpAddr::V4(self.into())
    }
}

impl Family for V6 {
    const SUFFIX: &'static str = "V6";

    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }

    fn ip(self) -> IpAddr {
        IpAddr::V6(self.into())
    }
}
