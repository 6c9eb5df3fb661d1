//! Listing flows, and removing those whose time is up.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::maps::MapError;
use forwarder_common::{
    flow::{ENDED, FlowEntry, FlowKey},
    tcp::State,
};

use super::{
    Clock, Datapath,
    compile::{TCP, UDP},
    family::Family,
    tables::{FamilyTables, FlowTable},
};
use crate::config::Timeouts;

/// A tuple of either family.
pub type Key = FlowKey<IpAddr>;
/// An entry of either family.
pub type Entry = FlowEntry<IpAddr>;

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

    /// How long it lives without a packet.
    pub fn timeout(&self, timeouts: &Timeouts) -> Duration {
        let ended = self.original_entry.flags & ENDED != 0;
        match self.original.protocol {
            TCP if ended => timeouts.tcp_transitory.min(timeouts.tcp_established),
            TCP => timeout_of(self.state(), timeouts),
            UDP if ended => timeouts.udp,
            UDP => timeout_of(self.state(), timeouts),
            _ => timeouts.icmp,
        }
    }
}

fn timeout_of(state: State, timeouts: &Timeouts) -> Duration {
    match state {
        State::SynSent | State::SynReceived => timeouts.tcp_half_open,
        State::Established => timeouts.tcp_established,
        State::FinWait | State::TimeWait | State::Close => timeouts.tcp_transitory,
        State::Unreplied => timeouts.udp,
        State::Stream => timeouts.udp_stream,
    }
}

/// `ADDR:PORT` of the two ends of a tuple.
pub fn ends(key: &Key) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(key.source, u16::from_be(key.source_port_be)),
        SocketAddr::new(key.destination, u16::from_be(key.destination_port_be)),
    )
}

impl Datapath {
    /// Every flow, half-open ones last in either family.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flows(&self) -> anyhow::Result<Vec<Flow>> {
        let mut flows = self.tables.v4.list()?;
        flows.extend(self.tables.v6.list()?);
        Ok(flows)
    }

    /// Ends the flows that `end` picks: whoever still sends on one is told so, and may begin anew. Returns
    /// how many.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn end_flows(&mut self, end: impl Fn(&Flow) -> bool) -> anyhow::Result<usize> {
        let flows = self.flows()?;
        let picked: Vec<_> = flows.iter().filter(|flow| end(flow)).collect();
        for flow in &picked {
            for key in [flow.original, flow.reply] {
                self.tables.v4.end(&key)?;
                self.tables.v6.end(&key)?;
            }
        }
        if !picked.is_empty() {
            self.tables.forget_cached()?;
        }
        Ok(picked.len())
    }

    /// How many established and half-open flows there are.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flow_counts(&self) -> anyhow::Result<(u64, u64)> {
        let (v4, v6) = (self.tables.v4.counts()?, self.tables.v6.counts()?);
        Ok((v4.0 + v6.0, v4.1 + v6.1))
    }
}

impl<A: Family> FamilyTables<A> {
    fn list(&self) -> anyhow::Result<Vec<Flow>> {
        let mut flows = Vec::new();
        let pending = self.pending()?;
        for table in [&self.flows, &self.half_open] {
            let mut replies = HashMap::new();
            let mut originals = Vec::new();
            table.all.for_each(|key, entry| {
                let entry = pending.settled(key, *entry);
                if entry.is_original() {
                    originals.push((*key, entry));
                } else {
                    replies.insert(*key, entry);
                }
            })?;
            for (key, entry) in originals {
                let other = entry.other_key(key.protocol);
                // A flow that was just made or removed may lack one half; it is whole the next time.
                if let Some(reply) = replies.get(&other) {
                    flows.push(Flow {
                        original: A::key(&key),
                        original_entry: A::entry(&entry),
                        reply: A::key(&other),
                        reply_entry: A::entry(reply),
                    });
                }
            }
        }
        Ok(flows)
    }

    fn end(&mut self, key: &Key) -> anyhow::Result<()> {
        let Some(key) = A::of_key(key) else {
            return Ok(());
        };
        for table in [&mut self.flows, &mut self.half_open] {
            table.end(&key)?;
        }
        Ok(())
    }

    fn counts(&self) -> anyhow::Result<(u64, u64)> {
        let flows = self.flows.all.count()?;
        let half_open = self.half_open.all.count()?;
        Ok((flows.div_ceil(2), half_open.div_ceil(2)))
    }
}

impl<A: Family> FlowTable<A> {
    /// The entry of `key` as it is now.
    pub(super) fn read(&self, key: &FlowKey<A>) -> anyhow::Result<Option<FlowEntry<A>>> {
        match self.one.get(key, 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn end(&mut self, key: &FlowKey<A>) -> anyhow::Result<()> {
        /// `BPF_EXIST` in include/uapi/linux/bpf.h: only where there is one.
        const IF_PRESENT: u64 = 2;
        if let Some(mut entry) = self.read(key)? {
            entry.flags |= ENDED;
            // It may have gone since it was read; then it has ended all the more.
            let _gone = self.one.insert(key, entry, IF_PRESENT);
        }
        Ok(())
    }
}
