//! What is the case on this host. Everything is read; nothing is changed.

pub(super) mod backends;
pub(super) mod conntrack;
pub(super) mod devices;
pub(super) mod ethtool;
pub(super) mod firewall;
pub(super) mod host;
pub(super) mod memory;
pub(super) mod peers;
pub(super) mod routes;
pub(super) mod sockets;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context as _;
use rtnetlink::Handle;

use super::finding::Group;
use super::report::Unseen;
use crate::config::Config;
use crate::datapath::{Address, others};
use crate::network::Network;

pub(super) use backends::{Answer, Probe};
pub(super) use conntrack::Tracked;
pub(super) use devices::{Device, Program};
pub(super) use ethtool::{Channels, Features};
pub(super) use firewall::Ruleset;
pub(super) use host::Host;
pub(super) use memory::Memory;
pub(super) use peers::Peer;
pub(super) use routes::{Neighbour, Way};
pub(super) use sockets::Socket;

/// All of it. What could not be looked at is empty or `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub host: Host,
    pub memory: Memory,
    /// Every device of this network namespace; details only of configured ones.
    pub devices: Vec<Device>,
    /// Own addresses that other hosts may know.
    pub addresses: Vec<Address>,
    /// The way to each address that rules name.
    pub ways: BTreeMap<IpAddr, Way>,
    /// The devices of the default routes of IPv4 and IPv6.
    pub defaults: [Option<String>; 2],
    pub probes: Vec<Probe>,
    pub sockets: Vec<Socket>,
    /// Whether a forwarder runs in this network namespace.
    pub forwarder: bool,
    /// Whether maps and programs of one are pinned for this network namespace.
    pub pinned: bool,
    pub firewall: Option<Ruleset>,
    pub tracked: Vec<Tracked>,
}

impl Facts {
    /// The device `name`.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    /// Whether `address` is this host's.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.address == address)
    }
}

/// What could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<Unseen>);

impl Gaps {
    /// Notes that `what` could not be looked at.
    pub fn push(&mut self, group: Group, what: impl Into<String>, why: impl Into<String>) {
        let one = Unseen {
            group,
            what: what.into(),
            why: why.into(),
        };
        if !self.0.contains(&one) {
            self.0.push(one);
        }
    }

    /// What is in `result`, or a note of why it is not.
    pub fn take<T, E: std::fmt::Display>(
        &mut self,
        group: Group,
        what: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(group, what, format!("{error:#}"));
                None
            }
        }
    }
}

/// Looks at everything that `config` has to do with.
///
/// # Errors
/// Netlink cannot be had at all.
pub(super) async fn gather(config: &Config) -> anyhow::Result<(Facts, Vec<Unseen>)> {
    let (connection, handle, _) =
        rtnetlink::new_connection().context("cannot ask the kernel about the network")?;
    let connection = tokio::spawn(connection);
    let mut gaps = Gaps::default();
    let facts = read(config, &handle, &mut gaps).await;
    connection.abort();
    Ok((facts?, gaps.0))
}

async fn read(config: &Config, handle: &Handle, gaps: &mut Gaps) -> anyhow::Result<Facts> {
    let network = Network::read(handle).await?;
    let host = host::read(gaps);
    let mut devices = devices::read(handle, &network).await?;
    let programs = gaps.take(Group::Kernel, "other BPF programs", others::loaded());
    for device in &mut devices {
        let configured = config.interfaces.iter().any(|one| one.name == device.name);
        if configured {
            ethtool::describe(device, gaps).await;
            devices::programs(device, programs.as_ref(), handle, gaps).await;
            peers::describe(device, handle, gaps).await;
        }
    }
    // The probes make the kernel look for the next hops.
    let probes = backends::probe(config, &network, gaps).await;
    let mut facts = Facts {
        memory: memory::read(config, gaps),
        probes,
        sockets: sockets::read(gaps),
        forwarder: sockets::forwarder_runs(),
        pinned: others::pinned(),
        firewall: firewall::read(gaps),
        tracked: conntrack::read(gaps),
        host,
        devices,
        addresses: network.addresses,
        ..Facts::default()
    };
    routes::read(config, handle, &mut facts, gaps).await?;
    Ok(facts)
}
