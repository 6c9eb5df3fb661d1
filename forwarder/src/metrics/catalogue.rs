//! Every metric there is: its name, type, labels and meaning in one place, to which `docs/metrics.md` is compared.

use prometheus_client::metrics::MetricType;

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Without the `_total` that counters get.
    pub(super) stem: &'static str,
    /// Its type.
    pub(super) kind: MetricType,
    /// The keys of its labels.
    pub labels: &'static [&'static str],
    /// One line about what it says.
    pub help: &'static str,
}

impl Metric {
    /// As Prometheus knows it.
    pub fn name(&self) -> String {
        match self.kind {
            MetricType::Counter => format!("{}_total", self.stem),
            _ => self.stem.to_owned(),
        }
    }

    /// `counter`, `gauge` or `histogram`.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }
}

macro_rules! metrics {
    ($($id:ident = $stem:literal, $kind:ident, [$($label:literal),*], $help:literal;)+) => {
        $(pub(super) const $id: Metric = Metric {
            stem: $stem,
            kind: MetricType::$kind,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// All of them, in the order in which they are written.
        pub const METRICS: &[Metric] = &[$($id,)+];
    };
}

metrics! {
    BUILD_INFO = "forwarder_build_info", Gauge, ["version", "abi"],
        "Always 1; the labels say which forwarder this is.";
    START_TIME = "process_start_time_seconds", Gauge, [],
        "When the daemon started, in seconds since 1970.";
    GENERATION = "forwarder_generation", Gauge, [],
        "Changes of routes, rules, neighbours, devices and addresses so far; each makes flows ask for their route again.";
    INTERFACE_INFO = "forwarder_interface_info", Gauge, ["interface", "mode", "hook", "driver"],
        "Always 1 for a configured interface; the hook is absent while the device is.";
    RULE_PACKETS = "forwarder_rule_packets", Counter, ["rule", "direction", "hook"],
        "Packets sent on, by rule, direction and hook; a large segment counts as one.";
    RULE_BYTES = "forwarder_rule_bytes", Counter, ["rule", "direction", "hook"],
        "Bytes sent on, counted from the IP header, by rule, direction and hook.";
    RULE_FLOWS_OPENED = "forwarder_rule_flows_opened", Counter, ["rule"],
        "Flows that the rule has opened.";
    RULE_FLOWS = "forwarder_rule_flows", Gauge, ["rule", "protocol", "state"],
        "Flows there were at the last sweep, by rule, protocol and state.";
    REASON_PACKETS = "forwarder_reason_packets", Counter, ["reason", "verdict"],
        "Packets not sent on, by reason; those with the verdict drop ended here.";
    EVENTS = "forwarder_events", Counter, ["event"],
        "Events of flows that were handed on, by kind; none while nothing wants them.";
    EVENTS_LOST = "forwarder_events_lost", Counter, ["place"],
        "Events of flows that were lost because this place was full, too slow or could not be written.";
    EVENTS_WRITTEN = "forwarder_events_written", Counter, ["place"],
        "Events of flows that were written to the flow log and to the history.";
    TABLE_USED = "forwarder_table_used", Gauge, ["table", "family"],
        "What a table holds, in units of its limit; flows and mappings as of the last sweep.";
    TABLE_LIMIT = "forwarder_table_limit", Gauge, ["table", "family"],
        "What a table can hold.";
    POOL_USED = "forwarder_port_pool_used", Gauge, ["rule", "protocol", "source", "backend"],
        "Source ports in use at a translated address towards a backend, as of the last sweep.";
    POOL_FREE = "forwarder_port_pool_free", Gauge, ["rule", "protocol", "source", "backend"],
        "Source ports left at a translated address towards a backend, as of the last sweep.";
    POOLS_LEFT_OUT = "forwarder_port_pools_left_out", Gauge, [],
        "Pools of source ports that have no metric because a thousand others are fuller.";
    SWEEP_DURATION = "forwarder_sweep_duration_seconds", Histogram, [],
        "How long it took to go through all flows and remove those whose time was up.";
    SWEEP_REMOVED = "forwarder_sweep_removed_flows", Counter, [],
        "Flows removed because their time was up, since the daemon started.";
    SWEEP_AGE = "forwarder_sweep_age_seconds", Gauge, [],
        "Time since the last sweep, which is the age of everything that is as of the last sweep.";
}
