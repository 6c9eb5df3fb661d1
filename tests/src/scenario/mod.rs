//! Whole set-ups: who is connected to whom, which gateway stands between, and what came of a conversation.
//!
//! A scenario runs once with iptables and once with the forwarder; the two [`Outcome`]s have to be equal.

mod chain;
mod config;
mod family;
mod forwarder;
mod hairpin;
mod iptables;
mod outcome;
mod rig;
mod rules;
mod s0;
mod s2;
mod s3;
mod s4;

use anyhow::Result;

use crate::netns::Namespace;

pub use chain::Chain;
pub use config::GatewayConfig;
pub use family::Family;
pub use forwarder::{Forwarder, binary, see_bpffs, socket_in};
pub use hairpin::Hairpin;
pub use iptables::{Iptables, Netfilter};
pub use outcome::Outcome;
pub use rig::{Baseline, Baselines, Rig, Topology};
pub use rules::{Masquerade, Mode, Output, Protocol, Rule, Source, Uplink};
pub use s0::S0;
pub use s2::S2;
pub use s3::S3;
pub use s4::S4;

/// Which gateway does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The kernel's conntrack and iptables: what the forwarder has to be equal to.
    Iptables,
    /// The daemon under test.
    Forwarder(Mode),
}

/// The engines by short names, for the parameters of tests.
pub mod engines {
    use super::{Engine, Mode};

    /// iptables.
    pub const IPTABLES: Engine = Engine::Iptables;
    /// The forwarder on native XDP.
    pub const XDP: Engine = Engine::Forwarder(Mode::Xdp);
    /// The forwarder on TC.
    pub const TC: Engine = Engine::Forwarder(Mode::Tc);
    /// The forwarder on generic XDP.
    pub const XDP_GENERIC: Engine = Engine::Forwarder(Mode::XdpGeneric);
    /// The forwarder, which chooses for itself.
    pub const AUTO: Engine = Engine::Forwarder(Mode::Auto);
}

/// A gateway at work; dropping it takes it down.
#[derive(Debug)]
pub enum Gateway {
    /// See [`Iptables`].
    Iptables(Iptables),
    /// See [`Forwarder`].
    Forwarder(Box<Forwarder>),
}

impl Gateway {
    /// Puts `config` into effect in a namespace.
    ///
    /// # Errors
    /// If a tool or the binary is missing, or refuses the configuration.
    pub fn start(engine: Engine, namespace: &Namespace, config: &GatewayConfig) -> Result<Self> {
        // Nothing but the product's rules may move packets between the two sides.
        namespace.forward(false)?;
        Ok(match engine {
            Engine::Iptables => Self::Iptables(Iptables::start(namespace, config)?),
            Engine::Forwarder(mode) => {
                Self::Forwarder(Box::new(Forwarder::start(namespace, config, mode)?))
            }
        })
    }

    /// Starts the daemon with a file as an operator has it; see [`Forwarder::start_file`].
    ///
    /// # Errors
    /// If the binary is missing, or refuses the file.
    pub fn start_file(namespace: &Namespace, text: &str) -> Result<Self> {
        namespace.forward(false)?;
        let forwarder = Forwarder::start_file(namespace, text)?;
        Ok(Self::Forwarder(Box::new(forwarder)))
    }

    /// Puts rules of netfilter's into effect, as an operator has them.
    ///
    /// # Errors
    /// If a tool is missing or refuses them.
    pub fn start_rules(namespace: &Namespace, rules: &Netfilter) -> Result<Self> {
        namespace.forward(false)?;
        Ok(Self::Iptables(Iptables::load(namespace, rules)?))
    }

    /// The daemon, where there is one.
    #[must_use]
    pub fn forwarder(&mut self) -> Option<&mut Forwarder> {
        match self {
            Self::Iptables(_) => None,
            Self::Forwarder(forwarder) => Some(forwarder),
        }
    }

    /// What the gateway has to say for itself, for the message of a failed test.
    #[must_use]
    pub fn report(&self) -> String {
        match self {
            Self::Iptables(iptables) => iptables.report(),
            Self::Forwarder(forwarder) => forwarder.report(),
        }
    }
}
