//! How full the tables are that change with rules and with the network. Those of flows are counted by the sweep.

use aya::{Ebpf, maps::MapError};
use forwarder_common::network::Network;

use super::{
    Datapath, compile::Contents, family::Family, object::descriptor, tables::FamilyTables,
};

/// How full one table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// What it holds, in the words of the documentation.
    pub table: &'static str,
    /// The address family it is for; `None`: both.
    pub family: Option<&'static str>,
    /// Entries in use.
    pub used: u64,
    /// Entries there can be.
    pub limit: u64,
}

/// Entries that the tables of fixed size can have, of either family alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacities {
    listeners: u32,
    clients: u32,
    outbound: u32,
    masquerade: u32,
    own: u32,
    devices: u32,
    vlans: u32,
}

impl Capacities {
    /// Of an object whose maps have not been taken yet.
    pub(super) fn of(ebpf: &Ebpf) -> anyhow::Result<Self> {
        let of = |name| descriptor(ebpf, name).map(|(_, capacity)| capacity);
        Ok(Self {
            listeners: of("LISTENERS_V4")?,
            clients: of("CLIENTS_V4")?,
            outbound: of("OUTBOUND_V4")?,
            masquerade: of("MASQUERADE_V4")?,
            own: of("OWN_V4")?,
            devices: of("DEVICES")?,
            vlans: of("VLANS")?,
        })
    }
}

impl Datapath {
    /// How full every table is that changes with rules and with the network.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn fill(&self) -> anyhow::Result<Vec<Fill>> {
        let tables = &self.tables;
        let mut fill = self.rule_fill.clone();
        fill.extend(self.network_fill(&tables.v4)?);
        fill.extend(self.network_fill(&tables.v6)?);
        let shared = |table, used, limit| Fill {
            table,
            family: None,
            used,
            limit: u64::from(limit),
        };
        let Capacities { devices, vlans, .. } = self.capacities;
        fill.extend([
            shared("rules", self.names.len() as u64, self.sizes.rules),
            shared("devices", count(tables.devices.keys())?, devices),
            shared("vlans", count(tables.vlans.keys())?, vlans),
        ]);
        Ok(fill)
    }

    fn network_fill<A: Family>(&self, tables: &FamilyTables<A>) -> anyhow::Result<[Fill; 2]> {
        let Capacities {
            masquerade, own, ..
        } = self.capacities;
        Ok([
            fill_of::<A>("masquerade", count(tables.masquerade.keys())?, masquerade),
            fill_of::<A>("own-addresses", count(tables.own.keys())?, own),
        ])
    }

    /// Checks that there is room for these listeners.
    pub(super) fn check_room<A: Family + Network>(
        &self,
        contents: &Contents<A>,
    ) -> anyhow::Result<()> {
        let (used, limit) = (contents.listeners.len(), self.capacities.listeners as usize);
        anyhow::ensure!(
            used <= limit,
            "the rules listen on {used} blocks of ports, and there is room for {limit}, four for each of `limits.rules`: raise it, `forwarder detach`, and start again"
        );
        Ok(())
    }

    /// Notes how full the tables of rules are with these contents.
    pub(super) fn note_rule_fill<A: Family + Network>(&mut self, contents: &Contents<A>) {
        let Capacities {
            listeners,
            clients,
            outbound,
            ..
        } = self.capacities;
        self.rule_fill.extend([
            fill_of::<A>("listeners", contents.listeners.len() as u64, listeners),
            fill_of::<A>("backends", contents.backends.len() as u64, self.sizes.rules),
            fill_of::<A>("clients", contents.clients.len() as u64, clients),
            fill_of::<A>("outbound", contents.outbound.len() as u64, outbound),
        ]);
    }
}

/// The name of a family in listings.
pub fn family_name(is_ipv6: bool) -> &'static str {
    if is_ipv6 { "ipv6" } else { "ipv4" }
}

fn fill_of<A: Family>(table: &'static str, used: u64, limit: u32) -> Fill {
    Fill {
        table,
        family: Some(family_name(A::IPV6)),
        used,
        limit: u64::from(limit),
    }
}

fn count<K>(mut keys: impl Iterator<Item = Result<K, MapError>>) -> Result<u64, MapError> {
    keys.try_fold(0, |count, key| key.map(|_| count + 1))
}
