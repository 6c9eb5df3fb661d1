//! What the daemon tells on its control socket.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use forwarder_common::reason::{Reason, Verdict};

use super::{
    capture, compare, describe, explain,
    published::Setup,
    running::{Running, State},
};
use crate::{
    config::{Config, Mode},
    control::{
        CaptureGrant, CaptureQuery, FlowQuery,
        server::{self, Held},
    },
    datapath::{Clock, Entry, Flow, Key, Refused, RuleCount, ShadowCount, ends},
    events::EventQuery,
    explain::ExplainQuery,
    history::{WhoQuery, WhoReport},
    network,
    report::{
        self, Direction, DropReport, Explanation, Fill, FlowReport, Forwarded, Hook,
        InterfaceStatus, LastPacket, RuleReport, ShadowReport, ShadowStatus, Status, Traffic,
        WouldDrop, advice,
    },
};

impl server::Source for Running {
    fn capture(self: Arc<Self>, query: &CaptureQuery) -> anyhow::Result<(CaptureGrant, Held)> {
        let (grant, capturing) = capture::begin(&self, query)?;
        Ok((grant, Box::new(capturing)))
    }

    fn explain(&self, query: &ExplainQuery) -> anyhow::Result<Explanation> {
        explain::explain(&*self.published.setup()?, query)
    }

    fn status(&self) -> anyhow::Result<Status> {
        let setup = self.published.setup()?;
        let (flows, half_open) = self.view.now().flow_counts()?;
        let sizes = setup.sizes;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.since.elapsed().as_secs(),
            config: match &self.options.config_path {
                Some(path) => path.display().to_string(),
                None => "from the command line".to_owned(),
            },
            interfaces: setup.interfaces.clone(),
            // Each family has tables of its own.
            flows: fill(flows, sizes.flows.saturating_mul(2)),
            half_open: fill(half_open, sizes.half_open.saturating_mul(2)),
            rules: fill(setup.config.rule_count() as u64, sizes.rules),
            forwarded: self.forwarded(&setup)?,
            dropped_packets: dropped(&self.view.now().reasons()?),
            shadow: self.shadow_status(&setup.config),
            generation: u64::from(self.view.now().settings()?.generation),
        })
    }

    fn rules(&self) -> anyhow::Result<Vec<RuleReport>> {
        let setup = self.published.setup()?;
        let active = self.view.now().flows_by_rule()?;
        let shadows = self.view.now().shadow_counts()?;
        let names = setup.names.iter();
        let slots: HashMap<&str, u32> = names.map(|(slot, name)| (name.as_str(), *slot)).collect();
        describe::rules(&setup.config)
            .map(|rule| match slots.get(rule.name.as_str()) {
                Some(slot) => {
                    let count = self.view.now().rule_count(*slot)?;
                    let active = active.get(slot).copied().unwrap_or(0);
                    Ok(RuleReport {
                        shadow: shadows.get(slot).map(|seen| self.shadow(*slot, seen)),
                        ..counted(rule, &count, active)
                    })
                }
                None => Ok(rule),
            })
            .collect()
    }

    fn flows(&self, query: &FlowQuery, sink: server::Sink<'_>) -> anyhow::Result<()> {
        self.list_flows(query, sink)
    }

    fn drops(&self) -> anyhow::Result<Vec<DropReport>> {
        let setup = self.published.setup()?;
        let clock = self.published.figures().now();
        let reasons = self.view.now().reasons()?;
        let counts: Vec<u64> = reasons.iter().map(|(_, count)| *count).collect();
        let rates = self.rates().of(Instant::now(), &counts);
        let reasons = reasons.into_iter().zip(rates);
        reasons
            .map(|((reason, packets), rate)| {
                let last = self.view.now().last_refused(reason)?;
                Ok(DropReport {
                    reason: reason.name().to_owned(),
                    verdict: verdict(reason),
                    packets,
                    rate,
                    last: last.first().map(|packet| setup.last(packet, &clock)),
                    explanation: reason.sentence().to_owned(),
                    advice: advice(reason).to_owned(),
                })
            })
            .collect()
    }

    fn events(&self, query: &EventQuery, hear: server::Hearer<'_>) -> anyhow::Result<()> {
        self.telling.hear(query, hear)
    }

    fn who(&self, query: &WhoQuery) -> anyhow::Result<WhoReport> {
        self.telling.who(query)
    }

    fn reload(&self) -> anyhow::Result<String> {
        self.reload_file()
    }
}

impl Running {
    fn forwarded(&self, setup: &Setup) -> anyhow::Result<Forwarded> {
        let mut sum = Forwarded::default();
        for slot in setup.names.keys() {
            let count = self.view.now().rule_count(*slot)?;
            sum.xdp_packets += count.xdp_packets;
            sum.tc_packets += count.tc_packets;
            sum.bytes += count.original.bytes + count.reply.bytes;
        }
        Ok(sum)
    }

    fn shadow(&self, slot: u32, seen: &ShadowCount) -> ShadowReport {
        let dropped = seen.dropped.iter().map(|(reason, packets)| WouldDrop {
            reason: reason.name().to_owned(),
            packets: *packets,
        });
        ShadowReport {
            original: traffic(seen.original),
            reply: traffic(seen.reply),
            flows_opened: seen.opened,
            dropped: dropped.collect(),
            compared: self.comparisons().of(slot).unwrap_or_default(),
        }
    }

    fn shadow_status(&self, config: &Config) -> Option<ShadowStatus> {
        let interfaces = config.interfaces.iter();
        let watching = interfaces.filter(|one| one.mode == Mode::Shadow);
        let comparisons = self.comparisons();
        compare::watches(config).then(|| ShadowStatus {
            rules: describe::rules(config)
                .filter(|rule| rule.is_shadow)
                .count() as u64,
            interfaces: watching.map(|one| one.name.clone()).collect(),
            compared: comparisons.sum(),
            unavailable: comparisons.unavailable.clone(),
        })
    }
}

impl State {
    pub(super) fn interfaces(&self) -> Vec<InterfaceStatus> {
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
            .chain(self.leaving.iter().map(|(name, leaving)| InterfaceStatus {
                name: name.clone(),
                index: Some(leaving.served.index),
                wanted: "none".to_owned(),
                hook: leaving.served.hook,
                why: "not configured any more, leaves when its flows have ended".to_owned(),
                driver: network::driver(name),
            }))
            .collect()
    }
}

impl Setup {
    pub(super) fn flow(&self, flow: &Flow, clock: &Clock) -> FlowReport {
        let idle = flow.idle(clock);
        let left = flow.timeout(&self.config.timeouts).saturating_sub(idle);
        let (original, reply) = (&flow.original_entry, &flow.reply_entry);
        FlowReport {
            rule: self.names.get(&original.rule).cloned().unwrap_or_default(),
            protocol: protocol(flow.original.protocol).to_owned(),
            state: flow.state().name().to_owned(),
            shadow: flow.is_shadow(),
            // One direction leaves where the other arrives.
            original: self.direction(&flow.original, original, reply.route.egress.index()),
            reply: self.direction(&flow.reply, reply, original.route.egress.index()),
            age_seconds: seconds(clock.since_created(original.created)),
            idle_seconds: seconds(idle),
            expires_seconds: seconds(left),
        }
    }

    fn last(&self, packet: &Refused, clock: &Clock) -> LastPacket {
        let [source, destination] = match packet.ports {
            Some([from, to]) => [(packet.source, from), (packet.destination, to)]
                .map(|end| SocketAddr::from(end).to_string()),
            None => [packet.source, packet.destination].map(|address| IpAddr::to_string(&address)),
        };
        LastPacket {
            protocol: match packet.protocol {
                1 | 58 => "icmp".to_owned(),
                6 | 17 => protocol(packet.protocol).to_owned(),
                other => format!("protocol {other}"),
            },
            source,
            destination,
            interface: self.network.name(packet.device).unwrap_or("?").to_owned(),
            seconds_ago: seconds(clock.since(packet.at as u32)),
        }
    }

    fn direction(&self, key: &Key, entry: &Entry, arrives: u32) -> Direction {
        let (source, destination) = ends(key);
        Direction {
            source: source.to_string(),
            destination: destination.to_string(),
            packets: entry.packets(),
            bytes: entry.bytes,
            // What this host itself sends or gets has no device on that side.
            interface: match arrives {
                0 => "local".to_owned(),
                _ => self.network.name(arrives).unwrap_or("?").to_owned(),
            },
        }
    }
}

fn verdict(reason: Reason) -> report::Verdict {
    match reason.verdict() {
        Verdict::Pass => report::Verdict::Pass,
        Verdict::SlowPath => report::Verdict::SlowPath,
        Verdict::Drop => report::Verdict::Drop,
    }
}

/// A protocol's name by its number.
pub(super) fn protocol(number: u8) -> &'static str {
    match number {
        6 => "tcp",
        17 => "udp",
        _ => "icmp",
    }
}

/// `rule` with what it has done.
fn counted(rule: RuleReport, count: &RuleCount, active: u64) -> RuleReport {
    RuleReport {
        xdp_packets: count.xdp_packets,
        tc_packets: count.tc_packets,
        original: traffic(count.original),
        reply: traffic(count.reply),
        flows_opened: count.opened,
        flows_active: active,
        ..rule
    }
}

fn dropped(counts: &[(Reason, u64)]) -> u64 {
    let dropped = |reason: &Reason| reason.verdict() == Verdict::Drop;
    counts
        .iter()
        .filter(|(reason, _)| dropped(reason))
        .map(|(_, count)| count)
        .sum()
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
