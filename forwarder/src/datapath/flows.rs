//! Listing flows, and removing those whose time is up.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
    time::Duration,
};

use aya::maps::MapError;
use forwarder_common::{
    flow::{DELIVER, EMIT, ENDED, FlowEntry, FlowKey},
    tcp::{Seen, State},
};

use super::{
    Clock, Datapath, View,
    cache::Pending,
    compile::{TCP, UDP},
    family::Family,
    tables::{FamilyTables, FlowTable},
    view::FamilyView,
};
use crate::config::Timeouts;

/// `BPF_EXIST` in include/uapi/linux/bpf.h: only where there is one.
pub(super) const IF_PRESENT: u64 = 2;

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

/// What either direction of a flow says of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Tuple of the packets from the client.
    pub original: Key,
    /// Tuple of the packets from the backend.
    pub reply: Key,
    /// Slot of the rule that made it.
    pub rule: u32,
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

    /// Whether it is TCP.
    pub fn is_tcp(&self) -> bool {
        self.original.protocol == TCP
    }

    /// The socket of this host that is one of its ends: its own address and the other's.
    pub fn local_socket(&self) -> Option<(SocketAddr, SocketAddr)> {
        if self.original_entry.has(EMIT) {
            return Some(ends(&self.original));
        }
        if !self.original_entry.has(DELIVER) {
            return None;
        }
        let rewrite = self.original_entry.rewrite;
        let (remote, local) = ends(&rewrite.key(self.original.protocol));
        Some((local, remote))
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
            // Nobody is to be told, and what the client sends opens another.
            _ if ended => Duration::ZERO,
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
    /// As [`View::flows`].
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flows(&self) -> anyhow::Result<Vec<Flow>> {
        self.view.now().flows()
    }

    /// As [`View::flow_counts`].
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flow_counts(&self) -> anyhow::Result<(u64, u64)> {
        self.view.now().flow_counts()
    }

    /// Ends `flows`: whoever still sends TCP on one is told so, and a client may begin anew. All else is removed with
    /// the next sweep.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn end_flows(&mut self, flows: &[Flow]) -> anyhow::Result<()> {
        for flow in flows {
            for key in [flow.original, flow.reply] {
                self.tables.v4.end(&key)?;
                self.tables.v6.end(&key)?;
            }
        }
        if !flows.is_empty() {
            self.tables.forget_cached()?;
        }
        Ok(())
    }
}

impl View {
    /// Calls `visit` for every flow that `wanted` picks by what both of its directions say. `wanted` is asked more than once for a flow.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn each_flow(
        &self,
        wanted: impl Fn(&Identity) -> bool,
        mut visit: impl FnMut(Flow) -> ControlFlow<()>,
    ) -> anyhow::Result<()> {
        if self.v4.each_flow(&wanted, &mut visit)?.is_continue() {
            let _asked_to_stop = self.v6.each_flow(&wanted, &mut visit)?;
        }
        Ok(())
    }

    /// How many flows there are of each rule, by its slot.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flows_by_rule(&self) -> anyhow::Result<HashMap<u32, u64>> {
        let mut counts = HashMap::new();
        self.v4.count_by_rule(&mut counts)?;
        self.v6.count_by_rule(&mut counts)?;
        Ok(counts)
    }

    /// How many established and half-open flows there are.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flow_counts(&self) -> anyhow::Result<(u64, u64)> {
        let (v4, v6) = (self.v4.counts()?, self.v6.counts()?);
        Ok((v4.0 + v6.0, v4.1 + v6.1))
    }

    /// Every flow.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn flows(&self) -> anyhow::Result<Vec<Flow>> {
        let mut flows = Vec::new();
        self.each_flow(
            |_| true,
            |flow| {
                flows.push(flow);
                ControlFlow::Continue(())
            },
        )?;
        Ok(flows)
    }
}

impl<A: Family> FamilyView<A> {
    fn count_by_rule(&self, counts: &mut HashMap<u32, u64>) -> anyhow::Result<()> {
        self.flows.for_each(|_, entry| {
            if entry.is_original() {
                *counts.entry(entry.rule).or_default() += 1;
            }
        })?;
        Ok(())
    }

    fn counts(&self) -> anyhow::Result<(u64, u64)> {
        let (mut established, mut half_open) = (0, 0);
        self.flows.for_each(|key, entry| {
            if is_half_open(key, entry) {
                half_open += 1;
            } else if entry.is_original() {
                established += 1;
            }
        })?;
        Ok((established, half_open))
    }

    fn each_flow(
        &self,
        wanted: &impl Fn(&Identity) -> bool,
        visit: &mut impl FnMut(Flow) -> ControlFlow<()>,
    ) -> anyhow::Result<ControlFlow<()>> {
        let pending = Pending::read(&self.cache)?;
        let mut replies = HashMap::new();
        let mut originals = Vec::new();
        self.flows.for_each(|key, entry| {
            if !wanted(&Identity::of(key, entry)) {
                return;
            }
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
                let flow = Flow {
                    original: A::key(&key),
                    original_entry: A::entry(&entry),
                    reply: A::key(&other),
                    reply_entry: A::entry(reply),
                };
                if visit(flow).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Whether this is the original direction of a TCP flow whose handshake is not complete.
pub(super) fn is_half_open<A: Family>(key: &FlowKey<A>, entry: &FlowEntry<A>) -> bool {
    key.protocol == TCP && entry.is_original() && !entry.seen.has(Seen::CONFIRMED)
}

impl Identity {
    fn of<A: Family>(key: &FlowKey<A>, entry: &FlowEntry<A>) -> Self {
        let (key, other) = (A::key(key), A::key(&entry.other_key(key.protocol)));
        let (original, reply) = if entry.is_original() {
            (key, other)
        } else {
            (other, key)
        };
        Self {
            original,
            reply,
            rule: entry.rule,
        }
    }
}

impl<A: Family> FamilyTables<A> {
    fn end(&mut self, key: &Key) -> anyhow::Result<()> {
        let Some(key) = A::of_key(key) else {
            return Ok(());
        };
        self.flows.end(&key)
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
        if let Some(mut entry) = self.read(key)? {
            entry.flags |= ENDED;
            // It may have gone since it was read; then it has ended all the more.
            let _gone = self.one.insert(key, entry, IF_PRESENT);
        }
        Ok(())
    }
}
