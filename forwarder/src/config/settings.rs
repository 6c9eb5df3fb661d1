//! `[limits]`, `[timeouts]`, `[control]` and `[log]`; `[metrics]`, `[original-destination]`, `[flow-log]` and `[history]` have
//! files of their own.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeTable;

use super::flow_log;
use super::history;
use super::metrics;
use super::model::PortRange;
use super::model_settings::{
    Control, FlowLog, Format, History, Level, Limits, Log, Metrics, OriginalDestination, Timeouts,
};
use super::original;
use super::ports;
use super::scalar;
use super::schema;
use super::span::Span;
use super::tree::{Reader, Section, Value};

const FLOWS: RangeInclusive<u32> = 1..=16_777_216;
const RULES: RangeInclusive<u32> = 1..=65_536;

/// The settings as they were written. A value that could not be read has its default, its problem is noted.
#[derive(Debug)]
pub(super) struct RawSettings {
    pub limits: Limits,
    /// Where `limits.rules` stands, if it does.
    pub rules_limit: Option<Span>,
    pub timeouts: Timeouts,
    pub control: Control,
    pub metrics: Option<Metrics>,
    pub original_destination: Option<OriginalDestination>,
    pub log: Log,
    pub flow_log: Option<FlowLog>,
    pub history: Option<History>,
}

impl RawSettings {
    pub fn read<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Self {
        let limits = Section::single(reader, root, &schema::LIMITS);
        Self {
            rules_limit: limits
                .and_then(|section| section.get("rules"))
                .map(|value| value.span),
            limits: limits
                .map(|section| read_limits(reader, section))
                .unwrap_or_default(),
            timeouts: read_timeouts(reader, root),
            control: read_control(reader, root),
            metrics: metrics::read(reader, root),
            original_destination: original::read(reader, root),
            log: read_log(reader, root),
            flow_log: flow_log::read(reader, root),
            history: history::read(reader, root),
        }
    }
}

fn read_limits<'a>(reader: &mut Reader<'a>, section: Section<'a>) -> Limits {
    let mut limits = Limits::default();
    for (key, range, limit) in [
        ("flows", FLOWS, &mut limits.flows),
        ("half-open", FLOWS, &mut limits.half_open),
        ("rules", RULES, &mut limits.rules),
    ] {
        let given = section
            .get(key)
            .and_then(|value| scalar::number(reader, value, range));
        *limit = given.unwrap_or(*limit);
    }
    limits.ports = section
        .get("source-ports")
        .and_then(|value| source_ports(reader, value));
    limits
}

fn source_ports<'a>(reader: &mut Reader<'a>, value: Value<'a>) -> Option<PortRange> {
    let expected = "a range of ports such as \"1024-32767\"";
    let token = value.token(reader, expected)?;
    if !token.text.contains('-') {
        reader.push(token.error(format!(
            "bad port range {}: expected {expected}",
            token.quoted()
        )));
        return None;
    }
    ports::read(reader, token)
}

fn read_timeouts<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(section) = Section::single(reader, root, &schema::TIMEOUTS) else {
        return timeouts;
    };
    let keys: [(&'static str, &mut Duration); 7] = [
        ("tcp-established", &mut timeouts.tcp_established),
        ("tcp-half-open", &mut timeouts.tcp_half_open),
        ("tcp-transitory", &mut timeouts.tcp_transitory),
        ("udp", &mut timeouts.udp),
        ("udp-stream", &mut timeouts.udp_stream),
        ("icmp", &mut timeouts.icmp),
        ("drain", &mut timeouts.drain),
    ];
    for (key, timeout) in keys {
        let given = section
            .get(key)
            .and_then(|value| scalar::duration(reader, value));
        *timeout = given.unwrap_or(*timeout);
    }
    timeouts
}

fn read_control<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Control {
    let mut control = Control::default();
    let Some(section) = Section::single(reader, root, &schema::CONTROL) else {
        return control;
    };
    let socket = section
        .get("socket")
        .and_then(|value| scalar::socket_path(reader, value));
    control.socket = socket.unwrap_or(control.socket);
    control.group = section
        .get("group")
        .and_then(|value| scalar::group(reader, value));
    let mode = section
        .get("mode")
        .and_then(|value| scalar::word_value(reader, value, &Control::MODES));
    control.mode = mode.unwrap_or(control.mode);
    control
}

fn read_log<'a>(reader: &mut Reader<'a>, root: &'a DeTable<'a>) -> Log {
    let Some(section) = Section::single(reader, root, &schema::LOG) else {
        return Log::default();
    };
    let level = section
        .get("level")
        .and_then(|value| scalar::word_value(reader, value, &Level::WORDS));
    let format = section
        .get("format")
        .and_then(|value| scalar::word_value(reader, value, &Format::WORDS));
    Log {
        level: level.unwrap_or_default(),
        format: format.unwrap_or_default(),
    }
}
