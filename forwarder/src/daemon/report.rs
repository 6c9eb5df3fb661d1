//! What the daemon tells on its control socket.

use std::{collections::BTreeMap, time::Duration};

use forwarder_common::reason::{Reason, Verdict};

use super::running::{Running, State};
use crate::{
    config::Rule,
    control::server::Source,
    datapath::{Clock, Flow, ends, timeout},
    network,
    report::{
        self, Direction, DropReport, Fill, FlowReport, Forwarded, Hook, InterfaceStatus,
        RuleReport, Status, Traffic,
    },
};

impl Source for Running {
    fn status(&self) -> anyhow::Result<Status> {
        let state = self.state();
        let (flows, half_open) = state.datapath.flow_counts()?;
        let sizes = state.datapath.sizes();
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.since.elapsed().as_secs(),
            config: match &self.options.config_path {
                Some(path) => path.display().to_string(),
                None => "from the command line".to_owned(),
            },
            interfaces: state.interfaces(),
            flows: fill(flows, sizes.flows),
            half_open: fill(half_open, sizes.half_open),
            rules: fill(state.config.rules.len() as u64, sizes.rules),
            forwarded: state.forwarded()?,
            dropped_packets: state.dropped()?,
            generation: u64::from(state.datapath.settings()?.generation),
        })
    }

    fn rules(&self) -> anyhow::Result<Vec<RuleReport>> {
        let state = self.state();
        let names = state.datapath.rule_names();
        let mut active: BTreeMap<&str, u64> = BTreeMap::new();
        for flow in state.datapath.flows()? {
            if let Some(name) = names.get(&flow.original_entry.rule) {
                *active.entry(name).or_default() += 1;
            }
        }
        let rules = &state.config.rules;
        rules
            .iter()
            .map(|rule| {
                let active = active.get(rule.name.as_str()).copied().unwrap_or(0);
                state.rule(rule, active)
            })
            .collect()
    }

    fn flows(&self) -> anyhow::Result<Vec<FlowReport>> {
        let mut state = self.state();
        let clock = state.datapath.clock(self.hz)?;
        let names = state.datapath.rule_names();
        let flows = state.datapath.flows()?;
        Ok(flows
            .iter()
            .map(|flow| state.flow(flow, &clock, &names))
            .collect())
    }

    fn drops(&self) -> anyhow::Result<Vec<DropReport>> {
        let counts = self.state().datapath.reasons()?;
        Ok(counts
            .into_iter()
            .map(|(reason, packets)| DropReport {
                reason: reason.name().to_owned(),
                verdict: match reason.verdict() {
                    Verdict::Pass => report::Verdict::Pass,
                    Verdict::SlowPath => report::Verdict::SlowPath,
                    Verdict::Drop => report::Verdict::Drop,
                },
                packets,
                explanation: reason.sentence().to_owned(),
            })
            .collect())
    }

    fn reload(&self) -> anyhow::Result<String> {
        self.reload_file()
    }
}

impl State {
    fn interfaces(&self) -> Vec<InterfaceStatus> {
        let interfaces = &self.config.interfaces;
        interfaces
            .iter()
            .map(|interface| {
                let link = self.network.link(&interface.name);
                let attached = self.attached.get(&interface.name);
                InterfaceStatus {
                    name: interface.name.clone(),
                    index: link.map(|link| link.index),
                    wanted: interface.mode.to_string(),
                    hook: attached.map_or(Hook::Absent, |attached| attached.hook),
                    why: match attached {
                        Some(attached) => attached.why.clone(),
                        None => "waiting for the device".to_owned(),
                    },
                    driver: network::driver(&interface.name),
                }
            })
            .collect()
    }

    fn forwarded(&self) -> anyhow::Result<Forwarded> {
        let mut sum = Forwarded::default();
        for rule in self.datapath.rule_names().values() {
            let count = self.datapath.rule_count(rule)?;
            sum.xdp_packets += count.xdp_packets;
            sum.tc_packets += count.tc_packets;
            sum.bytes += count.original.bytes + count.reply.bytes;
        }
        Ok(sum)
    }

    fn dropped(&self) -> anyhow::Result<u64> {
        let counts = self.datapath.reasons()?;
        let dropped = |reason: &Reason| reason.verdict() == Verdict::Drop;
        Ok(counts
            .iter()
            .filter(|(reason, _)| dropped(reason))
            .map(|(_, count)| count)
            .sum())
    }

    fn rule(&self, rule: &Rule, active: u64) -> anyhow::Result<RuleReport> {
        let count = self.datapath.rule_count(&rule.name)?;
        let protocols = [(rule.tcp, "tcp"), (rule.udp, "udp")];
        let taken: Vec<_> = protocols
            .into_iter()
            .filter_map(|(taken, name)| taken.then_some(name))
            .collect();
        let backends = rule.backends().iter();
        Ok(RuleReport {
            name: rule.name.clone(),
            protocol: taken.join(","),
            interface: rule.interface.clone(),
            listen: rule.listen.to_string(),
            to: backends
                .map(|backend| backend.display(rule.listen.ports))
                .collect(),
            source: rule.source.to_string(),
            xdp_packets: count.xdp_packets,
            tc_packets: count.tc_packets,
            original: traffic(count.original),
            reply: traffic(count.reply),
            flows_opened: count.opened,
            flows_active: active,
        })
    }

    fn flow(&self, flow: &Flow, clock: &Clock, names: &BTreeMap<u32, String>) -> FlowReport {
        let state = flow.state();
        let idle = flow.idle(clock);
        let left = timeout(state, &self.config.timeouts).saturating_sub(idle);
        let direction = |key, entry: &forwarder_common::flow::FlowEntry<_>, arrives: u32| {
            let (source, destination) = ends(key);
            Direction {
                source: source.to_string(),
                destination: destination.to_string(),
                packets: entry.packets,
                bytes: entry.bytes,
                interface: self.network.name(arrives).unwrap_or("?").to_owned(),
            }
        };
        let (original, reply) = (&flow.original_entry, &flow.reply_entry);
        FlowReport {
            rule: names.get(&original.rule).cloned().unwrap_or_default(),
            protocol: if flow.original.protocol == 6 {
                "tcp"
            } else {
                "udp"
            }
            .to_owned(),
            state: state.name().to_owned(),
            // One direction leaves where the other arrives.
            original: direction(&flow.original, original, reply.route.egress),
            reply: direction(&flow.reply, reply, original.route.egress),
            age_seconds: seconds(clock.since_created(original.created)),
            idle_seconds: seconds(idle),
            expires_seconds: seconds(left),
        }
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

fn fill(used: u64, limit: u32) -> Fill {
    Fill {
        used,
        limit: u64::from(limit),
    }
}

fn traffic(traffic: forwarder_common::stats::Traffic) -> Traffic {
    Traffic {
        packets: traffic.packets,
        bytes: traffic.bytes,
    }
}
