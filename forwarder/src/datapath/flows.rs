//! Listing flows, and removing those whose time is up.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddrV4,
    time::Duration,
};

use aya::maps::MapError;
use forwarder_common::{
    address::V4,
    flow::{FlowEntry, FlowKey},
    tcp::{Seen, State},
};

use super::{Clock, Datapath, batch::Batch, compile::TCP};
use crate::config::Timeouts;

type Key = FlowKey<V4>;
type Entry = FlowEntry<V4>;

/// One flow, both directions.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Tuple of the packets from the client.
    pub original: Key,
    /// Their entry.
    pub original_entry: Entry,
    /// Tuple of the packets from the backend.
    pub reply: Key,
    /// Their entry.
    pub reply_entry: Entry,
}

/// What one sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Established flows that stay.
    pub flows: u64,
    /// Half-open flows that stay.
    pub half_open: u64,
    /// Flows removed.
    pub removed: u64,
    /// Slots of the rules that flows named, those just removed included: a slot is free a sweep later.
    pub rules: BTreeSet<u32>,
}

impl Flow {
    /// What both directions have seen, in one word.
    pub fn state(&self) -> State {
        if self.original.protocol == TCP {
            State::of_tcp(self.original_entry.seen, self.reply_entry.seen)
        } else {
            State::of_udp(self.reply_entry.seen)
        }
    }

    /// Time since the last packet of either direction.
    pub fn idle(&self, clock: &Clock) -> Duration {
        clock
            .since(self.original_entry.last_seen)
            .min(clock.since(self.reply_entry.last_seen))
    }
}

/// How long a flow in `state` lives without a packet.
pub fn timeout(state: State, timeouts: &Timeouts) -> Duration {
    match state {
        State::SynSent | State::SynReceived => timeouts.tcp_half_open,
        State::Established => timeouts.tcp_established,
        State::FinWait | State::TimeWait | State::Close => timeouts.tcp_transitory,
        State::Unreplied => timeouts.udp,
        State::Stream => timeouts.udp_stream,
    }
}

/// `ADDR:PORT` of the two ends of a tuple.
pub fn ends(key: &Key) -> (SocketAddrV4, SocketAddrV4) {
    (
        SocketAddrV4::new(key.source.into(), u16::from_be(key.source_port_be)),
        SocketAddrV4::new(
            key.destination.into(),
            u16::from_be(key.destination_port_be),
        ),
    )
}

impl Datapath {
    /// Every flow, half-open ones last.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flows(&self) -> anyhow::Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for table in [&self.tables.flows_batch, &self.tables.half_open_batch] {
            let mut replies = HashMap::new();
            let mut originals = Vec::new();
            table.for_each(|key, entry| {
                if entry.is_original() {
                    originals.push((*key, *entry));
                } else {
                    replies.insert(*key, *entry);
                }
            })?;
            for (original, original_entry) in originals {
                let reply = original_entry.other_key(original.protocol);
                // A flow that was just made or removed may lack one half; it is whole the next time.
                if let Some(reply_entry) = replies.get(&reply) {
                    flows.push(Flow {
                        original,
                        original_entry,
                        reply,
                        reply_entry: *reply_entry,
                    });
                }
            }
        }
        Ok(flows)
    }

    /// Removes the flows that `end` picks; returns how many.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn remove_flows(&mut self, end: impl Fn(&Flow) -> bool) -> anyhow::Result<usize> {
        let flows = self.flows()?;
        let keys: Vec<Key> = flows
            .iter()
            .filter(|flow| end(flow))
            .flat_map(|flow| [flow.original, flow.reply])
            .collect();
        self.tables.flows_batch.delete(&keys)?;
        self.tables.half_open_batch.delete(&keys)?;
        Ok(keys.len() / 2)
    }

    /// How many established and half-open flows there are.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flow_counts(&self) -> anyhow::Result<(u64, u64)> {
        let flows = self.tables.flows_batch.count()?;
        let half_open = self.tables.half_open_batch.count()?;
        Ok((flows.div_ceil(2), half_open.div_ceil(2)))
    }

    /// Removes flows that have been idle for longer than `timeouts` allow, and halves without their other
    /// half.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn sweep(&mut self, clock: &Clock, timeouts: &Timeouts) -> anyhow::Result<Swept> {
        let mut swept = Swept::default();
        let sweeper = Sweeper { clock, timeouts };
        let tables = &self.tables;
        swept.flows = sweeper.run(&tables.flows_batch, &tables.flows, &mut swept)?;
        swept.half_open = sweeper.run(&tables.half_open_batch, &tables.half_open, &mut swept)?;
        Ok(swept)
    }
}

type Table = aya::maps::HashMap<aya::maps::MapData, Key, Entry>;

struct Sweeper<'a> {
    clock: &'a Clock,
    timeouts: &'a Timeouts,
}

impl Sweeper<'_> {
    /// Sweeps one table and returns how many flows stay in it.
    fn run(
        &self,
        batch: &Batch<Key, Entry>,
        table: &Table,
        swept: &mut Swept,
    ) -> anyhow::Result<u64> {
        let mut stay = 0;
        let mut suspects = Vec::new();
        batch.for_each(|key, entry| {
            swept.rules.insert(entry.rule);
            if self.clock.since(entry.last_seen) > self.shortest(key, entry) {
                suspects.push(*key);
            } else if entry.is_original() {
                stay += 1;
            }
        })?;
        let mut expired = Vec::new();
        for key in suspects {
            // Read again, so that a packet that came since the walk saves its flow.
            match self.judge(table, &key)? {
                Judgement::Expired(other) => expired.extend([key, other]),
                Judgement::Stays { original: true } => stay += 1,
                Judgement::Stays { original: false } => {}
            }
        }
        expired.sort_unstable_by_key(|key| {
            (
                key.source.octets(),
                key.source_port_be,
                key.destination.octets(),
                key.destination_port_be,
                key.protocol,
            )
        });
        expired.dedup();
        batch.delete(&expired)?;
        swept.removed += (expired.len() as u64).div_ceil(2);
        Ok(stay)
    }

    /// The shortest timeout that this direction could be under, whatever the other one has seen.
    fn shortest(&self, key: &Key, entry: &Entry) -> Duration {
        let timeouts = self.timeouts;
        if key.protocol != TCP {
            return timeouts.udp.min(timeouts.udp_stream);
        }
        if entry.is_original() && !entry.seen.has(Seen::CONFIRMED) {
            return timeouts.tcp_half_open.min(timeouts.tcp_transitory);
        }
        timeouts
            .tcp_transitory
            .min(timeouts.tcp_half_open)
            .min(timeouts.tcp_established)
    }

    fn judge(&self, table: &Table, key: &Key) -> anyhow::Result<Judgement> {
        let Some(entry) = read(table, key)? else {
            return Ok(Judgement::Stays { original: false });
        };
        let other_key = entry.other_key(key.protocol);
        let original = entry.is_original();
        let Some(other) = read(table, &other_key)? else {
            // Half a flow: its other half was removed, or is being made this moment.
            return Ok(Judgement::Expired(other_key));
        };
        let flow = if original {
            Flow {
                original: *key,
                original_entry: entry,
                reply: other_key,
                reply_entry: other,
            }
        } else {
            Flow {
                original: other_key,
                original_entry: other,
                reply: *key,
                reply_entry: entry,
            }
        };
        if flow.idle(self.clock) > timeout(flow.state(), self.timeouts) {
            Ok(Judgement::Expired(other_key))
        } else {
            Ok(Judgement::Stays { original })
        }
    }
}

enum Judgement {
    /// With the key of the other direction.
    Expired(Key),
    Stays {
        original: bool,
    },
}

fn read(table: &Table, key: &Key) -> anyhow::Result<Option<Entry>> {
    match table.get(key, 0) {
        Ok(entry) => Ok(Some(entry)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
