//! A topology with a gateway at work in it, and the comparison of engines.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::{Engine, Gateway, GatewayConfig, Mode, Outcome, Rule, S0, S3};
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
        let hosts = S0::build(&Prefix::unique(), wire)?;
        let config = GatewayConfig {
            interfaces: vec![S0::DEVICE],
            rules: rules.to_vec(),
            ..GatewayConfig::default()
        };
        let gateway = start(engine, &hosts.gateway, &config)?;
        Ok(Self { gateway, hosts })
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
        let hosts = S3::build(&Prefix::unique(), wire)?;
        let config = GatewayConfig {
            interfaces: vec!["wan1", "wan2", "lan0"],
            rules: rules.to_vec(),
            uplinks: S3::UPLINKS.to_vec(),
            ..GatewayConfig::default()
        };
        let gateway = start(engine, &hosts.gateway, &config)?;
        Ok(Self { gateway, hosts })
    }
}

fn start(engine: Engine, namespace: &Namespace, config: &GatewayConfig) -> Result<Gateway> {
    if engine == Engine::Forwarder(Mode::XdpGeneric) {
        // Generic XDP runs behind GRO, which hands it several frames as one with a partial checksum.
        for device in &config.interfaces {
            namespace.set_feature(device, Feature::Gro, false)?;
        }
    }
    Gateway::start(engine, namespace, config)
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
