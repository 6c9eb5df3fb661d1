//! Flows that a change of the rules or of the network is about.

use std::{collections::BTreeSet, net::IpAddr};

use tracing::{debug, info};

use super::running::State;
use crate::{
    config::Source,
    datapath::{Clock, Flow, InForce, RuleSet, Surroundings},
    fault::{self, Step},
    network::{self, Network},
    report::counted,
};

impl State {
    /// Does with every flow that the rules `in_force` would not make as it is what its rule says. Tells what that was,
    /// if there were any.
    pub(super) fn change_flows(&mut self, in_force: &InForce) -> anyhow::Result<Option<String>> {
        fault::at(Step::Flows)?;
        let clock = self.datapath.clock(self.hz)?;
        let network = &self.network;
        let names = self.config.interfaces.iter().map(|one| &one.name);
        let devices: Vec<u32> = names
            .filter_map(|name| Some(network.link(name)?.index))
            .collect();
        let leaving: Vec<u32> = self.leaving.values().map(|one| one.served.index).collect();
        let around = Surroundings {
            own: &network.addresses,
            devices: &devices,
            leaving: &leaving,
        };
        let rules = RuleSet::from(&*self.config);
        let changed = self
            .datapath
            .change_flows((rules, in_force), &around, &clock)?;
        self.kill(&changed.killed)?;
        let counts = [
            (changed.kept, "kept"),
            (changed.draining, "draining"),
            (changed.killed.len(), "ended"),
        ];
        let told: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count != 0)
            .map(|(count, what)| format!("{} {what}", counted(*count, "flow")))
            .collect();
        Ok((!told.is_empty()).then(|| format!("by older rules: {}", told.join(", "))))
    }

    /// Ends `flows` and has both ends of TCP connections told.
    fn kill(&mut self, flows: &[Flow]) -> anyhow::Result<()> {
        // First, so that the reset which the kernel sends to the other end still goes by the flow.
        for flow in flows.iter().filter(|flow| flow.is_tcp()) {
            if let Some((local, remote)) = flow.local_socket()
                && let Err(error) = network::destroy_socket(local, remote)
            {
                debug!("the socket of {local} to {remote} stays: {error}");
            }
        }
        self.datapath.end_flows(flows)?;
        self.prompts.add(flows);
        Ok(())
    }

    /// Ends flows whose last time is up.
    pub(super) fn end_drained(&mut self, clock: &Clock) -> anyhow::Result<()> {
        let flows = self.datapath.drained(clock, self.config.timeouts.drain)?;
        if !flows.is_empty() {
            info!(
                "{} ended: drained for longer than `timeouts.drain`",
                counted(flows.len(), "flow")
            );
        }
        self.kill(&flows)
    }

    /// Ends the flows that masquerade as an address this host no longer has: nothing comes back to them.
    /// Whoever still sends on one gets a RST, and a client that tries again the new address.
    pub(super) fn forget_addresses(&mut self, network: &Network) -> anyhow::Result<()> {
        let has = |address| network.addresses.iter().any(|one| one.address == address);
        let before = self.network.addresses.iter().map(|one| one.address);
        let gone: BTreeSet<IpAddr> = before.filter(|address| !has(*address)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let forwards = self.config.rules.iter();
        let forwards = forwards.map(|rule| (rule.source, &rule.name));
        let outbound = self.config.masquerades.iter();
        let outbound = outbound.map(|rule| (rule.source, &rule.name));
        let masquerading: BTreeSet<&str> = forwards
            .chain(outbound)
            .filter(|(source, _)| *source == Source::Masquerade)
            .map(|(_, name)| name.as_str())
            .collect();
        let names = self.datapath.rule_names();
        let mut flows = self.datapath.flows()?;
        flows.retain(|flow| {
            let name = names.get(&flow.original_entry.rule);
            name.is_some_and(|name| masquerading.contains(name.as_str()))
                && gone.contains(&flow.original_entry.rewrite.source)
        });
        self.datapath.end_flows(&flows)?;
        info!(
            "own addresses are gone: {} that masqueraded as them ended",
            counted(flows.len(), "flow")
        );
        Ok(())
    }
}
