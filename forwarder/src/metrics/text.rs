//! From a snapshot to the text that Prometheus reads.

use std::{array, fmt};

use forwarder_common::stats::Traffic;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_text},
    registry::Registry,
};

use super::{
    catalogue::{self as all, Metric},
    snapshot::{RuleTotals, Snapshot, SweepTotals, Swept},
};
use crate::{
    datapath::Fill,
    events::{Kind, Place},
    report::Hook,
};

/// `Content-Type` of what [`render`] returns.
pub use prometheus_text::CONTENT_TYPE;

/// All metrics in Prometheus' text format 0.0.4.
pub fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _infallible = prometheus_text::encode(&mut text, &registry);
    text
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.daemon(&mut writer)?;
        self.traffic(&mut writer)?;
        self.state(&mut writer)?;
        self.sweeps.write(&mut writer)?;
        match &self.swept {
            Some(swept) => writer.gauge(&all::SWEEP_AGE, swept.age),
            None => Ok(()),
        }
    }
}

impl Snapshot {
    fn daemon(&self, writer: &mut Writer) -> fmt::Result {
        let mut build = writer.family(&all::BUILD_INFO)?;
        build.gauge([&self.version, &self.abi.to_string()], 1_u64)?;
        writer.gauge(&all::START_TIME, self.started)?;
        writer.gauge(&all::GENERATION, self.generation)?;
        let mut family = writer.family(&all::INTERFACE_INFO)?;
        for one in &self.interfaces {
            let driver = one.driver.as_deref().unwrap_or_default();
            let labels = [one.name.as_str(), &one.wanted, one.hook.as_str(), driver];
            family.gauge(labels, 1_u64)?;
        }
        Ok(())
    }

    fn traffic(&self, writer: &mut Writer) -> fmt::Result {
        let mut packets = writer.family(&all::RULE_PACKETS)?;
        for rule in &self.rules {
            rule.each(|labels, traffic| packets.counter(labels, traffic.packets))?;
        }
        let mut bytes = writer.family(&all::RULE_BYTES)?;
        for rule in &self.rules {
            rule.each(|labels, traffic| bytes.counter(labels, traffic.bytes))?;
        }
        let mut opened = writer.family(&all::RULE_FLOWS_OPENED)?;
        for rule in &self.rules {
            opened.counter([&rule.name], rule.opened)?;
        }
        Ok(())
    }

    /// What is as of the last sweep is left out before the first one.
    fn state(&self, writer: &mut Writer) -> fmt::Result {
        if let Some(swept) = &self.swept {
            let mut flows = writer.family(&all::RULE_FLOWS)?;
            for one in &swept.flows {
                flows.gauge([one.rule.as_str(), one.protocol, one.state], one.count)?;
            }
        }
        let mut reasons = writer.family(&all::REASON_PACKETS)?;
        for (reason, packets) in &self.reasons {
            reasons.counter([reason.name(), reason.verdict().name()], *packets)?;
        }
        self.events(writer)?;
        let swept = self.swept.iter().flat_map(|swept| &swept.tables);
        let tables: Vec<&Fill> = swept.chain(&self.tables).collect();
        let mut used = writer.family(&all::TABLE_USED)?;
        for one in &tables {
            used.gauge(table_labels(one), one.used)?;
        }
        let mut limit = writer.family(&all::TABLE_LIMIT)?;
        for one in &tables {
            limit.gauge(table_labels(one), one.limit)?;
        }
        match &self.swept {
            Some(swept) => swept.pools(writer),
            None => Ok(()),
        }
    }
}

impl Snapshot {
    fn events(&self, writer: &mut Writer) -> fmt::Result {
        let mut told = writer.family(&all::EVENTS)?;
        for (kind, count) in Kind::ALL.into_iter().zip(self.events.told) {
            told.counter([kind.name()], count)?;
        }
        let mut lost = writer.family(&all::EVENTS_LOST)?;
        for (place, count) in Place::ALL.into_iter().zip(self.events.lost) {
            lost.counter([place.name()], count)?;
        }
        let mut written = writer.family(&all::EVENTS_WRITTEN)?;
        for (place, count) in Place::ALL.into_iter().zip(self.events.written) {
            if matches!(place, Place::FlowLog | Place::History) {
                written.counter([place.name()], count)?;
            }
        }
        Ok(())
    }
}

fn table_labels(fill: &Fill) -> [&'static str; 2] {
    [fill.table, fill.family.unwrap_or("both")]
}

impl RuleTotals {
    fn each(&self, mut write: impl FnMut([&str; 3], Traffic) -> fmt::Result) -> fmt::Result {
        for (hook, directions) in [Hook::Xdp, Hook::Tc].iter().zip(self.by_hook) {
            for (direction, traffic) in ["original", "reply"].into_iter().zip(directions) {
                write([&self.name, direction, hook.as_str()], traffic)?;
            }
        }
        Ok(())
    }
}

impl SweepTotals {
    fn write(&self, writer: &mut Writer) -> fmt::Result {
        let mut duration = writer.family(&all::SWEEP_DURATION)?;
        let count = self.durations.iter().map(|(_, count)| count).sum();
        duration.encoder.encode_histogram::<NoLabelSet>(
            self.seconds,
            count,
            &self.durations,
            None,
        )?;
        writer
            .family(&all::SWEEP_REMOVED)?
            .counter([], self.removed)
    }
}

impl Swept {
    fn pools(&self, writer: &mut Writer) -> fmt::Result {
        for (metric, free) in [(&all::POOL_USED, false), (&all::POOL_FREE, true)] {
            let mut family = writer.family(metric)?;
            for one in &self.pools {
                let labels = [one.rule.as_str(), one.protocol, &one.source, &one.backend];
                family.gauge(labels, if free { one.free } else { one.used })?;
            }
        }
        writer.gauge(&all::POOLS_LEFT_OUT, self.pools_left_out)
    }
}

/// Writes metrics one after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// The beginning of a metric, to be followed by its values.
    fn family(&mut self, metric: &'static Metric) -> Result<Family<'_>, fmt::Error> {
        let (name, help) = (metric.stem, metric.help);
        let encoder = self.0.encode_descriptor(name, help, None, metric.kind)?;
        Ok(Family { encoder, metric })
    }

    /// A metric of one value.
    fn gauge(&mut self, metric: &'static Metric, value: impl EncodeGaugeValue) -> fmt::Result {
        self.family(metric)?.gauge([], value)
    }
}

/// One metric that is being written.
struct Family<'a> {
    encoder: MetricEncoder<'a>,
    metric: &'static Metric,
}

impl Family<'_> {
    fn gauge<const N: usize>(
        &mut self,
        labels: [&str; N],
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let labels = self.labels(labels);
        self.encoder.encode_family(&labels)?.encode_gauge(&value)
    }

    fn counter<const N: usize>(&mut self, labels: [&str; N], value: u64) -> fmt::Result {
        let labels = self.labels(labels);
        let mut encoder = self.encoder.encode_family(&labels)?;
        encoder.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    /// Values with their keys.
    fn labels<'b, const N: usize>(&self, values: [&'b str; N]) -> [(&'static str, &'b str); N] {
        let keys = self.metric.labels;
        debug_assert_eq!(keys.len(), N, "labels of {}", self.metric.stem);
        array::from_fn(|at| (keys.get(at).copied().unwrap_or_default(), values[at]))
    }
}
