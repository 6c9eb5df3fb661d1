//! The candidates: everything that can stand between the generator and the sink.

mod iptables;
mod ipvs;
mod nft;
mod ours;

use std::fmt;
use std::io::{Seek as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tests::netns::{Namespace, Prefix};
use tests::process;
use tests::scenario::{Forwarder, Mode};

use crate::net::{Net, Pair};
use crate::programs::Way;
use crate::rig::Rig;

pub use iptables::Flavour;

/// Who stands there.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Candidate {
    /// The kernel's forwarding without NAT.
    Kernel,
    /// The baseline.
    IptablesLegacy,
    /// iptables' commands on nf_tables.
    IptablesNft,
    /// nf_tables with the rules in a map.
    NftMap,
    /// The same with established flows in a flowtable.
    NftFlowtable,
    /// IP Virtual Server in NAT mode.
    Ipvs,
    /// The forwarder on TC.
    Tc,
    /// The forwarder on XDP.
    Xdp,
    /// The forwarder as it chooses for itself, which is one of the other two; where connections tell whether it chose well.
    Auto,
    /// An XDP program that sends on what comes, with other MACs.
    Ceiling,
}

impl Candidate {
    /// All, from what does least for speed to what cannot be outrun.
    pub const ALL: [Self; 10] = [
        Self::Kernel,
        Self::IptablesLegacy,
        Self::IptablesNft,
        Self::NftMap,
        Self::NftFlowtable,
        Self::Ipvs,
        Self::Tc,
        Self::Xdp,
        Self::Auto,
        Self::Ceiling,
    ];

    /// What all others are compared with.
    pub const BASELINE: Self = Self::IptablesLegacy;

    /// As tables and plots have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel, no NAT",
            Self::IptablesLegacy => "iptables-legacy",
            Self::IptablesNft => "iptables-nft",
            Self::NftMap => "nft map",
            Self::NftFlowtable => "nft flowtable",
            Self::Ipvs => "IPVS",
            Self::Tc => "forwarder TC",
            Self::Xdp => "forwarder XDP",
            Self::Auto => "forwarder auto",
            Self::Ceiling => "XDP ceiling",
        }
    }

    /// Whether it translates; the others have no rules and no flows.
    #[must_use]
    pub fn translates(self) -> bool {
        !matches!(self, Self::Kernel | Self::Ceiling)
    }

    /// Whether it is the product.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Tc | Self::Xdp | Self::Auto)
    }

    /// How the forwarder is told to attach.
    fn mode(self) -> Mode {
        match self {
            Self::Tc => Mode::Tc,
            Self::Xdp => Mode::Xdp,
            _ => Mode::Auto,
        }
    }

    /// Whether conntrack keeps its flows.
    #[must_use]
    pub fn uses_conntrack(self) -> bool {
        self.translates() && !self.is_ours()
    }

    /// Where its packets arrive.
    #[must_use]
    pub fn destination(self) -> Pair {
        if self.translates() {
            Net::BACKEND
        } else {
            Net::FOREIGN
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// The transport protocol of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Protocol {
    /// The word that all configuration languages use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What a gateway is told.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// For which packets.
    pub protocol: Protocol,
    /// Whether over IPv6.
    pub v6: bool,
    /// How many rules: each for a port of its own, but a single one for a range.
    pub rules: u32,
    /// How many ports a single rule has.
    pub ports: u32,
    /// How many flows it must be able to hold.
    pub flows: u32,
}

impl Order {
    /// The ports of rule `index`, first and last.
    #[must_use]
    pub fn ports_of(&self, index: u32) -> (u32, u32) {
        let first = u32::from(Net::PORT) + index;
        let length = if self.rules == 1 { self.ports } else { 1 };
        (first, first + length - 1)
    }

    /// How many ports all rules have.
    #[must_use]
    pub fn all_ports(&self) -> u32 {
        if self.rules == 1 {
            self.ports
        } else {
            self.rules
        }
    }
}

/// A candidate at work. What is not in here goes with the namespace.
#[derive(Debug)]
pub enum Gateway {
    /// Nothing to take down.
    Kernel,
    /// The daemon.
    Ours(Box<Forwarder>),
}

/// Why a candidate takes no part.
#[derive(Clone, Debug)]
pub struct NotHere(pub String);

impl fmt::Display for NotHere {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "not here: {}", self.0)
    }
}

impl std::error::Error for NotHere {}

impl Gateway {
    /// Puts a candidate to work between generator and sink.
    ///
    /// # Errors
    /// [`NotHere`] if this machine has not what it takes; else if it does not start.
    pub fn start(
        candidate: Candidate,
        order: &Order,
        rig: &mut Rig,
        prefix: &Prefix,
    ) -> Result<Self> {
        let namespace = &rig.hosts.gateway;
        match candidate {
            Candidate::Kernel => {}
            Candidate::IptablesLegacy => iptables::start(namespace, Flavour::Legacy, order)?,
            Candidate::IptablesNft => iptables::start(namespace, Flavour::Nft, order)?,
            Candidate::NftMap => nft::start(namespace, order, false)?,
            Candidate::NftFlowtable => nft::start(namespace, order, true)?,
            Candidate::Ipvs => ipvs::start(namespace, order)?,
            Candidate::Tc | Candidate::Xdp | Candidate::Auto => {
                return ours::start(namespace, candidate.mode(), order, prefix);
            }
            Candidate::Ceiling => ceiling(rig)?,
        }
        // Conntrack may be a module that the rules have brought.
        if candidate.uses_conntrack() {
            keep_flows(&rig.hosts.gateway)?;
        }
        Ok(Self::Kernel)
    }

    /// Has the candidate read other rules, as an operator would. Tells how long that took.
    ///
    /// # Errors
    /// If it refuses them.
    pub fn reload(
        &self,
        candidate: Candidate,
        order: &Order,
        namespace: &Namespace,
    ) -> Result<Duration> {
        let started = std::time::Instant::now();
        match (self, candidate) {
            (Self::Ours(forwarder), _) => ours::reload(forwarder, candidate.mode(), order)?,
            (_, Candidate::IptablesLegacy) => iptables::start(namespace, Flavour::Legacy, order)?,
            (_, Candidate::IptablesNft) => iptables::start(namespace, Flavour::Nft, order)?,
            (_, Candidate::NftMap) => nft::start(namespace, order, false)?,
            (_, Candidate::NftFlowtable) => nft::start(namespace, order, true)?,
            (_, Candidate::Ipvs) => ipvs::start(namespace, order)?,
            (Self::Kernel, _) => {}
        }
        Ok(started.elapsed())
    }
}

/// Flows that are established before a measurement must still be so at its end.
fn keep_flows(namespace: &Namespace) -> Result<()> {
    for key in ["udp_timeout", "udp_timeout_stream", "tcp_timeout_syn_sent"] {
        namespace.sysctl(&format!("net/netfilter/nf_conntrack_{key}"), "7200")?;
    }
    Ok(())
}

fn ceiling(rig: &mut Rig) -> Result<()> {
    let namespace = &rig.hosts.gateway;
    let device = namespace.run(|| nix::net::if_::if_nametoindex(Net::OUT))??;
    rig.programs.set_way(Way {
        macs: [Net::SINK_MAC, Net::ROUTER_OUT_MAC],
        device,
    })?;
    let programs = &mut rig.programs;
    namespace.run(|| programs.attach("ceiling", Net::IN))?
}

/// Runs a tool that reads its orders from standard input.
fn feed(namespace: &Namespace, program: &str, arguments: &[&str], script: &str) -> Result<String> {
    let mut file = tempfile::tempfile().context("creating a file for the rules")?;
    file.write_all(script.as_bytes())?;
    file.rewind()?;
    let mut command = namespace.command(program);
    command.args(arguments).stdin(Stdio::from(file));
    process::output(&mut command, PATIENCE).with_context(|| format!("loading rules by {program}"))
}

/// Tens of thousands of rules take their time.
const PATIENCE: Duration = Duration::from_secs(120);
