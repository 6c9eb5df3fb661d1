//! A topology with a gateway at work in it, and the comparison of engines.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::{
    Chain, Engine, Family, Gateway, GatewayConfig, Hairpin, Masquerade, Mode, Outcome, Output,
    Rule, S0, S2, S3, S4,
};
use crate::netns::{Feature, Namespace, Prefix, Wire};

/// Hosts and the gateway between them.
#[derive(Debug)]
pub struct Rig<T> {
    /// Declared first so that it is taken down before its namespace.
    pub gateway: Gateway,
    /// The hosts.
    pub hosts: T,
}

impl Rig<S0> {
    /// S0 with complete frames of wire size.
    ///
    /// # Errors
    /// If it cannot be built or the gateway does not start.
    pub fn s0(engine: Engine, rules: &[Rule]) -> Result<Self> {
        Self::s0_on(Wire::CABLE, engine, rules)
    }

    /// S0 on a wire of the caller's choice.
    ///
    /// # Errors
    /// As [`Rig::s0`].
    pub fn s0_on(wire: Wire, engine: Engine, rules: &[Rule]) -> Result<Self> {
        let config = GatewayConfig {
            interfaces: vec![S0::DEVICE],
            rules: rules.to_vec(),
            ..GatewayConfig::default()
        };
        Self::start(engine, S0::build(&Prefix::unique(), wire)?, &config)
    }
}

impl Rig<S3> {
    /// S3 with complete frames of wire size.
    ///
    /// # Errors
    /// If it cannot be built or the gateway does not start.
    pub fn s3(engine: Engine, rules: &[Rule]) -> Result<Self> {
        Self::s3_on(Wire::CABLE, engine, rules)
    }

    /// S3 on wires of the caller's choice.
    ///
    /// # Errors
    /// As [`Rig::s3`].
    pub fn s3_on(wire: Wire, engine: Engine, rules: &[Rule]) -> Result<Self> {
        let config = GatewayConfig {
            interfaces: vec!["wan1", "wan2", "lan0"],
            rules: rules.to_vec(),
            uplinks: S3::UPLINKS.to_vec(),
            ..GatewayConfig::default()
        };
        Self::start(engine, S3::build(&Prefix::unique(), wire)?, &config)
    }
}

impl Rig<Hairpin> {
    /// S3's inside half with complete frames of wire size.
    ///
    /// # Errors
    /// If it cannot be built or the gateway does not start.
    pub fn hairpin(engine: Engine, rules: &[Rule]) -> Result<Self> {
        let config = GatewayConfig {
            interfaces: Hairpin::DEVICES.to_vec(),
            rules: rules.to_vec(),
            ..GatewayConfig::default()
        };
        Self::start(
            engine,
            Hairpin::build(&Prefix::unique(), Wire::CABLE)?,
            &config,
        )
    }
}

impl Rig<S2> {
    /// S2 with complete frames of wire size.
    ///
    /// # Errors
    /// If it cannot be built or the gateway does not start.
    pub fn s2(engine: Engine, masquerades: &[Masquerade]) -> Result<Self> {
        let config = GatewayConfig {
            interfaces: vec![S2::OUTSIDE, S2::INSIDE],
            masquerades: masquerades.to_vec(),
            ..GatewayConfig::default()
        };
        Self::start(engine, S2::build(&Prefix::unique(), Wire::CABLE)?, &config)
    }
}

impl Rig<S4> {
    /// S4 with complete frames of wire size.
    ///
    /// # Errors
    /// If it cannot be built or the gateway does not start.
    pub fn s4(engine: Engine, rules: &[Rule], outputs: &[Output]) -> Result<Self> {
        let config = GatewayConfig {
            interfaces: vec![S4::OUTSIDE, S4::INSIDE],
            rules: rules.to_vec(),
            outputs: outputs.to_vec(),
            ..GatewayConfig::default()
        };
        Self::start(engine, S4::build(&Prefix::unique(), Wire::CABLE)?, &config)
    }
}

/// Hosts with a gateway among them.
pub trait Topology {
    /// Where the gateway's work is done.
    fn gateway(&self) -> &Namespace;
}

macro_rules! topologies {
    ($($hosts:ty),+) => {
        $(impl Topology for $hosts {
            fn gateway(&self) -> &Namespace {
                &self.gateway
            }
        })+
    };
}

topologies!(S0, S2, S3, S4, Chain, Hairpin);

impl<T: Topology> Rig<T> {
    /// Puts a gateway to work among hosts.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(engine: Engine, hosts: T, config: &GatewayConfig) -> Result<Self> {
        if engine == Engine::Forwarder(Mode::XdpGeneric) {
            // Generic XDP runs behind GRO, which hands it several frames as one with a partial checksum.
            for device in &config.interfaces {
                hosts.gateway().set_feature(device, Feature::Gro, false)?;
            }
        }
        let gateway = Gateway::start(engine, hosts.gateway(), config)?;
        Ok(Self { gateway, hosts })
    }

    /// Puts a gateway to work with the forwarder's file as it is; `config` is what iptables makes of the same wish.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_file(
        engine: Engine,
        hosts: T,
        text: &str,
        config: &GatewayConfig,
    ) -> Result<Self> {
        let gateway = match engine {
            Engine::Iptables => Gateway::start(engine, hosts.gateway(), config)?,
            Engine::Forwarder(_) => Gateway::start_file(hosts.gateway(), text)?,
        };
        Ok(Self { gateway, hosts })
    }
}

impl<T> Rig<T> {
    /// Runs a conversation and, if it fails, adds what the gateway knows about it.
    ///
    /// # Errors
    /// Those of the conversation.
    pub fn observe<O>(&self, conversation: impl FnOnce(&T) -> Result<O>) -> Result<O> {
        conversation(&self.hosts).with_context(|| self.gateway.report())
    }
}

/// The outcome under iptables, found out once per test and process.
#[derive(Debug, Default)]
pub struct Baseline(Mutex<Option<Outcome>>);

impl Baseline {
    /// Nothing found out yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Runs `scenario` under `engine`, and under iptables if that has not been done, and asserts that the outcomes
    /// are equal.
    ///
    /// # Errors
    /// Those of the scenario.
    ///
    /// # Panics
    /// If the outcomes differ.
    #[track_caller]
    pub fn compare(
        &self,
        engine: Engine,
        scenario: impl Fn(Engine) -> Result<Outcome>,
    ) -> Result<()> {
        let baseline = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &*known {
                Some(outcome) => outcome.clone(),
                None => known
                    .insert(scenario(Engine::Iptables).context("under iptables")?)
                    .clone(),
            }
        };
        if engine != Engine::Iptables {
            let outcome = scenario(engine).with_context(|| format!("under {engine:?}"))?;
            assert_eq!(
                outcome, baseline,
                "{engine:?} (left) is not what iptables (right) is"
            );
        }
        Ok(())
    }
}

/// A [`Baseline`] for each family of addresses.
#[derive(Debug, Default)]
pub struct Baselines([Baseline; 2]);

impl Baselines {
    /// Nothing found out yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([Baseline::new(), Baseline::new()])
    }

    /// The one of a family.
    #[must_use]
    pub fn of(&self, family: Family) -> &Baseline {
        let [v4, v6] = &self.0;
        family.pick(v4, v6)
    }
}
