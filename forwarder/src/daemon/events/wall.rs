//! From what the datapath says of flows to events, with the time of day.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use forwarder_common::{flow::ENDED, tcp::State};
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use super::TOGETHER;
use crate::{
    control::FlowProtocol,
    daemon::published::Published,
    datapath::{Clock, Event, Flow, Happening, ends},
    events::{Cause, Closed, Counts, FlowEvent, Hub, Kind},
};

/// Collects flows that are removed, and tells of them.
pub(in crate::daemon) struct Telegraph<'a> {
    hub: &'a Hub,
    moment: Wall,
    names: Arc<BTreeMap<u32, String>>,
    batch: Vec<FlowEvent>,
}

impl<'a> Telegraph<'a> {
    pub(super) fn new(hub: &'a Hub, published: &Published, clock: Clock) -> Self {
        Self {
            hub,
            moment: Wall::now(clock),
            names: published
                .setup()
                .map(|setup| Arc::clone(&setup.names))
                .unwrap_or_default(),
            batch: Vec::new(),
        }
    }

    pub fn tell(&mut self, flow: &Flow) {
        if flow.is_shadow() {
            return;
        }
        let closed = self.moment.closed(flow, false);
        let told = Told {
            kind: Kind::Closed,
            time: self.moment.now,
            // That is known to about a second only, and the connection may have been shorter.
            start: self.moment.made(flow).min(closed.end),
            closed: Some(closed),
        };
        self.batch.push(told.of(flow, &self.names));
        if self.batch.len() >= TOGETHER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.hub.publish(&self.batch);
        self.batch.clear();
    }
}

impl Drop for Telegraph<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What time it is, by all the clocks.
#[derive(Clone, Copy)]
pub(super) struct Wall {
    now: Timestamp,
    monotonic: Duration,
    clock: Clock,
}

impl Wall {
    /// `clock` is the datapath's, read just now.
    pub(super) fn now(clock: Clock) -> Self {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        Self {
            now: round(Timestamp::now()),
            monotonic: monotonic.unwrap_or_default(),
            clock,
        }
    }

    fn ago(&self, time: Duration) -> Timestamp {
        round(self.now.checked_sub(time).unwrap_or(self.now))
    }

    /// When the flow was made.
    fn made(&self, flow: &Flow) -> Timestamp {
        self.ago(self.clock.since_created(flow.original_entry.created))
    }

    pub(super) fn told(&self, event: &Event, names: &BTreeMap<u32, String>) -> FlowEvent {
        let time = self.ago(self.monotonic.saturating_sub(event.at));
        let kind = match event.what {
            Happening::Opened => Kind::New,
            Happening::Established => Kind::Established,
            Happening::Closed => Kind::Closed,
        };
        let closed = (kind == Kind::Closed).then(|| self.closed(&event.flow, true));
        let told = Told {
            kind,
            time,
            start: match kind {
                Kind::New => time,
                _ => {
                    let latest = closed.map_or(time, |closed| closed.end);
                    self.made(&event.flow).min(latest)
                }
            },
            closed,
        };
        told.of(&event.flow, names)
    }

    /// A flow that is in the table, as if it had just been told of.
    pub(super) fn opened(&self, flow: &Flow, names: &BTreeMap<u32, String>) -> FlowEvent {
        let start = self.made(flow);
        let told = Told {
            kind: Kind::New,
            time: start,
            start,
            closed: None,
        };
        told.of(flow, names)
    }

    fn closed(&self, flow: &Flow, reopened: bool) -> Closed {
        let (original, reply) = (&flow.original_entry, &flow.reply_entry);
        Closed {
            end: self.ago(flow.idle(&self.clock)),
            cause: match (original.flags & ENDED != 0, reopened) {
                (true, _) => Cause::Ended,
                (false, true) => Cause::Reopened,
                (false, false) => Cause::of(flow.state()),
            },
            original: Counts {
                packets: original.packets(),
                bytes: original.bytes,
            },
            reply: Counts {
                packets: reply.packets(),
                bytes: reply.bytes,
            },
        }
    }
}

/// All of an event but the flow.
struct Told {
    kind: Kind,
    time: Timestamp,
    start: Timestamp,
    closed: Option<Closed>,
}

impl Told {
    fn of(self, flow: &Flow, names: &BTreeMap<u32, String>) -> FlowEvent {
        let (client, listener) = ends(&flow.original);
        let (backend, translated) = ends(&flow.reply);
        let protocol = FlowProtocol::of(flow.original.protocol);
        let state = match (self.kind, protocol) {
            // The reply that makes it so has not been counted yet.
            (Kind::Established, FlowProtocol::Udp | FlowProtocol::Icmp) => State::Stream,
            _ => flow.state(),
        };
        FlowEvent {
            event: self.kind,
            time: self.time,
            rule: names
                .get(&flow.original_entry.rule)
                .cloned()
                .unwrap_or_default(),
            protocol,
            state: state.name().to_owned(),
            client,
            listener,
            translated,
            backend,
            start: self.start,
            closed: self.closed,
            created: flow.original_entry.created,
        }
    }
}

/// To the millisecond: more is not known.
fn round(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
