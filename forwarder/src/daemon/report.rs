//! What the daemon tells on its control socket.

use std::{collections::BTreeMap, time::Duration};

use forwarder_common::reason::{Reason, Verdict};

use super::running::{Running, State};
use crate::{
    config::{BackendPort, Listen, Masquerade, Output, PortRange, Protocol, Rule, Source, Target},
    control::server,
    datapath::{Clock, Entry, Flow, Key, RuleSet, ends},
    network,
    report::{
        self, Direction, DropReport, Fill, FlowReport, Forwarded, Hook, InterfaceStatus, Kind,
        RuleReport, Status, Traffic,
    },
};

impl server::Source for Running {
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
            // Each family has tables of its own.
            flows: fill(flows, sizes.flows.saturating_mul(2)),
            half_open: fill(half_open, sizes.half_open.saturating_mul(2)),
            rules: fill(RuleSet::from(&state.config).len() as u64, sizes.rules),
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
        let config = &state.config;
        let forwards = config.rules.iter().map(described_forward);
        let masquerades = config.masquerades.iter().map(described_masquerade);
        let outputs = config.outputs.iter().map(described_output);
        forwards
            .chain(masquerades)
            .chain(outputs)
            .map(|rule| {
                let active = active.get(rule.name.as_str()).copied().unwrap_or(0);
                state.counted(rule, active)
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

    /// With what it has done.
    fn counted(&self, rule: RuleReport, active: u64) -> anyhow::Result<RuleReport> {
        let count = self.datapath.rule_count(&rule.name)?;
        Ok(RuleReport {
            xdp_packets: count.xdp_packets,
            tc_packets: count.tc_packets,
            original: traffic(count.original),
            reply: traffic(count.reply),
            flows_opened: count.opened,
            flows_active: active,
            ..rule
        })
    }

    fn flow(&self, flow: &Flow, clock: &Clock, names: &BTreeMap<u32, String>) -> FlowReport {
        let state = flow.state();
        let idle = flow.idle(clock);
        let left = flow.timeout(&self.config.timeouts).saturating_sub(idle);
        let direction = |key: &Key, entry: &Entry, arrives: u32| {
            let (source, destination) = ends(key);
            Direction {
                source: source.to_string(),
                destination: destination.to_string(),
                packets: entry.packets,
                bytes: entry.bytes,
                // What this host itself sends or gets has no device on that side.
                interface: match arrives {
                    0 => "local".to_owned(),
                    _ => self.network.name(arrives).unwrap_or("?").to_owned(),
                },
            }
        };
        let (original, reply) = (&flow.original_entry, &flow.reply_entry);
        FlowReport {
            rule: names.get(&original.rule).cloned().unwrap_or_default(),
            protocol: match flow.original.protocol {
                6 => "tcp",
                17 => "udp",
                _ => "icmp",
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

fn protocols(tcp: bool, udp: bool) -> String {
    let taken: Vec<_> = [(tcp, "tcp"), (udp, "udp")]
        .into_iter()
        .filter_map(|(taken, name)| taken.then_some(name))
        .collect();
    taken.join(",")
}

fn described_forward(rule: &Rule) -> RuleReport {
    let ports = rule.listen.ports;
    RuleReport {
        kind: Kind::Forward,
        name: rule.name.clone(),
        protocol: protocols(rule.tcp, rule.udp),
        interface: rule.interface.clone(),
        listen: rule.listen.to_string(),
        to: match &rule.target {
            Target::Backends(backends) => backends
                .iter()
                .map(|backend| backend.display(ports))
                .collect(),
            Target::Local(port) => vec![local(*port, ports)],
        },
        source: rule.source.to_string(),
        ..RuleReport::default()
    }
}

/// `local:PORT`, as a file has it.
fn local(port: BackendPort, listen: PortRange) -> String {
    let ports = match port {
        BackendPort::Same => listen,
        BackendPort::Single(port) => PortRange {
            first: port,
            last: port,
        },
        BackendPort::First(first) => PortRange {
            first,
            last: first.saturating_add(listen.last - listen.first),
        },
    };
    format!("local:{ports}")
}

fn described_masquerade(rule: &Masquerade) -> RuleReport {
    let all = rule.ports.is_empty();
    let takes = |protocol| all || rule.ports.iter().any(|ports| ports.protocol == protocol);
    let from: Vec<_> = rule.from.iter().map(ToString::to_string).collect();
    RuleReport {
        kind: Kind::Masquerade,
        name: rule.name.clone(),
        protocol: protocols(takes(Protocol::Tcp), takes(Protocol::Udp)),
        interface: rule.interface.clone(),
        listen: format!("from {}", from.join(",")),
        to: rule.ports.iter().map(ToString::to_string).collect(),
        source: rule.source.to_string(),
        ..RuleReport::default()
    }
}

fn described_output(rule: &Output) -> RuleReport {
    RuleReport {
        kind: Kind::Output,
        name: rule.name.clone(),
        protocol: protocols(rule.tcp, rule.udp),
        listen: Listen {
            address: Some(rule.address),
            ports: rule.ports,
        }
        .to_string(),
        to: vec![rule.backend.display(rule.ports)],
        source: Source::Preserve.to_string(),
        ..RuleReport::default()
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
