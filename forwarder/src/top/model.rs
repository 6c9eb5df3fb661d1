//! From samples to rates.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use serde::Serialize;

use super::sample::Sample;
use crate::report::{DropReport, FlowReport, RuleReport, Status, drops};

/// Samples that histories go back.
const HISTORY: usize = 240;

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RuleRow {
    /// Its name.
    pub name: String,
    /// Flows there are.
    pub flows: u64,
    /// Flows opened a second.
    pub opened: f64,
    /// Packets of both directions a second.
    pub packets: f64,
    /// Bits of both directions a second.
    pub bits: f64,
    /// Packets a second so far, the oldest first.
    pub history: Vec<u64>,
}

/// One flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FlowRow {
    /// `tcp`, `udp` or `icmp`.
    pub protocol: String,
    /// Its state.
    pub state: String,
    /// The rule that made it.
    pub rule: String,
    /// Who opened it.
    pub client: String,
    /// Whom the client talks to.
    pub listener: String,
    /// Whom it really talks to.
    pub backend: String,
    /// Packets of both directions a second.
    pub packets: f64,
    /// Bits of both directions a second.
    pub bits: f64,
    /// Bytes of both directions so far.
    pub bytes: u64,
    /// Seconds since its first packet.
    pub age: u64,
    /// Seconds since its last packet.
    pub idle: u64,
}

/// One reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DropRow {
    /// Its name.
    pub reason: String,
    /// What becomes of such packets.
    pub verdict: String,
    /// Packets a second.
    pub rate: f64,
    /// Packets so far.
    pub packets: u64,
    /// The last one that was dropped, and what to do.
    pub last: String,
}

/// What is shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Model {
    /// The daemon.
    pub status: Status,
    /// Packets a second.
    pub packets: f64,
    /// Bits a second.
    pub bits: f64,
    /// Packets a second so far, the oldest first.
    pub history: VecDeque<u64>,
    /// Every rule.
    pub rules: Vec<RuleRow>,
    /// The flows that have carried most.
    pub flows: Vec<FlowRow>,
    /// Reasons that have occurred.
    pub drops: Vec<DropRow>,
    #[serde(skip)]
    histories: HashMap<String, VecDeque<u64>>,
    #[serde(skip)]
    before: Option<Sample>,
}

impl Model {
    /// With what has changed since the sample before. Of the first one there are no rates.
    pub fn add(&mut self, sample: Sample) {
        let before = self.before.take();
        let since = before.as_ref().map(|before| sample.at - before.at);
        let rate = Rate { since };
        let old = before.as_ref();
        self.rules = rules(&sample, old, rate);
        self.flows = flows(&sample, old, rate);
        self.drops = drops_of(&sample, old, rate);
        self.packets = self.rules.iter().map(|rule| rule.packets).sum();
        self.bits = self.rules.iter().map(|rule| rule.bits).sum();
        if since.is_some() {
            push(&mut self.history, self.packets);
            for rule in &self.rules {
                let history = self.histories.entry(rule.name.clone()).or_default();
                push(history, rule.packets);
            }
        }
        self.histories
            .retain(|name, _| self.rules.iter().any(|rule| rule.name == *name));
        for rule in &mut self.rules {
            let history = self.histories.get(&rule.name);
            rule.history = history.into_iter().flatten().copied().collect();
        }
        self.status = sample.status.clone();
        self.before = Some(sample);
    }
}

fn push(history: &mut VecDeque<u64>, rate: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(rate.round() as u64);
}

/// Turns growth into rates.
#[derive(Clone, Copy)]
struct Rate {
    since: Option<Duration>,
}

impl Rate {
    /// Of a counter that may have begun anew.
    fn of(self, now: u64, before: Option<u64>) -> f64 {
        match (self.since, before) {
            (Some(since), Some(before)) if !since.is_zero() => {
                now.saturating_sub(before) as f64 / since.as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

fn rules(sample: &Sample, before: Option<&Sample>, rate: Rate) -> Vec<RuleRow> {
    let old: HashMap<&str, &RuleReport> = before
        .iter()
        .flat_map(|before| &before.rules)
        .map(|rule| (rule.name.as_str(), rule))
        .collect();
    let packets = |rule: &RuleReport| rule.original.packets + rule.reply.packets;
    let bytes = |rule: &RuleReport| rule.original.bytes + rule.reply.bytes;
    let rows = sample.rules.iter().map(|rule| {
        let old = old.get(rule.name.as_str()).copied();
        RuleRow {
            name: rule.name.clone(),
            flows: rule.flows_active,
            opened: rate.of(rule.flows_opened, old.map(|old| old.flows_opened)),
            packets: rate.of(packets(rule), old.map(packets)),
            bits: 8.0 * rate.of(bytes(rule), old.map(bytes)),
            history: Vec::new(),
        }
    });
    rows.collect()
}

fn flows(sample: &Sample, before: Option<&Sample>, rate: Rate) -> Vec<FlowRow> {
    type Tuple<'a> = (&'a str, &'a str, &'a str);
    fn tuple(flow: &FlowReport) -> Tuple<'_> {
        let FlowReport { original, .. } = flow;
        (&flow.protocol, &original.source, &original.destination)
    }
    let packets = |flow: &FlowReport| flow.original.packets + flow.reply.packets;
    let bytes = |flow: &FlowReport| flow.original.bytes + flow.reply.bytes;
    let old: HashMap<Tuple<'_>, &FlowReport> = before
        .iter()
        .flat_map(|before| &before.flows)
        .map(|flow| (tuple(flow), flow))
        .collect();
    let rows = sample.flows.iter().map(|flow| {
        let old = old.get(&tuple(flow)).copied();
        FlowRow {
            protocol: flow.protocol.clone(),
            state: flow.state.clone(),
            rule: flow.rule.clone(),
            client: flow.original.source.clone(),
            listener: flow.original.destination.clone(),
            backend: flow.reply.source.clone(),
            packets: rate.of(packets(flow), old.map(packets)),
            bits: 8.0 * rate.of(bytes(flow), old.map(bytes)),
            bytes: bytes(flow),
            age: flow.age_seconds,
            idle: flow.idle_seconds,
        }
    });
    rows.collect()
}

fn drops_of(sample: &Sample, before: Option<&Sample>, rate: Rate) -> Vec<DropRow> {
    let old: HashMap<&str, u64> = before
        .iter()
        .flat_map(|before| &before.drops)
        .map(|one| (one.reason.as_str(), one.packets))
        .collect();
    let seen = |one: &&DropReport| one.packets > 0;
    let rows = sample.drops.iter().filter(seen).map(|one| DropRow {
        reason: one.reason.clone(),
        verdict: one.verdict.as_str().to_owned(),
        rate: rate.of(one.packets, old.get(one.reason.as_str()).copied()),
        packets: one.packets,
        last: match &one.last {
            Some(last) => drops::packet(last),
            None => one.explanation.clone(),
        },
    });
    rows.collect()
}
