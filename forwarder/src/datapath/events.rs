//! Flows that begin and end, as the programs tell of them.

use std::{
    collections::HashSet,
    ptr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, MapData, RingBuf},
};
use forwarder_common::{
    address::{V4, V6},
    event::{CLOSED, ESTABLISHED, FlowEvent, OPENED},
    flow::{FlowEntry, FlowKey, Rewrite},
    stats::Traffic,
    tcp::Seen,
};

use super::{Datapath, Flow, View, family::Family, tables::FamilyTables, view::typed};

/// What has happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It was made.
    Opened,
    /// TCP's handshake is complete, or the first reply has come.
    Established,
    /// It is gone.
    Closed,
}

impl Happening {
    /// The bit that stands for it where events are asked for.
    pub const fn bit(self) -> u32 {
        match self {
            Self::Opened => OPENED as u32,
            Self::Established => ESTABLISHED as u32,
            Self::Closed => CLOSED as u32,
        }
    }
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What has happened.
    pub what: Happening,
    /// When, by the kernel's monotonic clock.
    pub at: Duration,
    /// To which flow; what it has counted is known only of one that is gone.
    pub flow: Flow,
}

/// The reading end of the ring.
pub struct Events {
    ring: RingBuf<MapData>,
}

/// Says which kinds of events the programs tell of.
pub struct EventSwitch {
    kinds: Mutex<Array<MapData, u32>>,
}

impl Events {
    /// On a descriptor of its own: programs that are loaded later need the object's, whatever becomes of this one.
    pub(super) fn of(ebpf: &Ebpf) -> anyhow::Result<Self> {
        let ring = typed(ebpf, "EVENTS")?;
        Ok(Self { ring })
    }

    /// Takes no more than `limit` events out of the ring; returns how many there were.
    pub fn read(&mut self, limit: usize, mut visit: impl FnMut(Event)) -> usize {
        let mut count = 0;
        while count < limit
            && let Some(item) = self.ring.next()
        {
            count += 1;
            if let Some(event) = decode(&item) {
                visit(event);
            }
        }
        count
    }
}

impl EventSwitch {
    pub(super) fn of(ebpf: &Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            kinds: Mutex::new(typed(ebpf, ".bss.event_kinds")?),
        })
    }

    /// Has the programs tell of the kinds with these [`Happening::bit`]s, and of no other.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn want(&self, kinds: u32) -> anyhow::Result<()> {
        let mut map = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let set = map.set(0, kinds, 0);
        set.context("cannot tell the programs which events are wanted")
    }
}

impl Datapath {
    /// The events of flows, which only one reader can have.
    pub fn take_events(&mut self) -> Option<(Events, EventSwitch)> {
        self.events.take()
    }
}

impl<A: Family> FamilyTables<A> {
    /// Calls `visit` for every flow that has its tuples among `keys`, with all that it has counted.
    pub(super) fn each_of(
        &self,
        keys: &HashSet<FlowKey<A>>,
        visit: &mut dyn FnMut(Flow),
    ) -> anyhow::Result<()> {
        let pending = self.pending()?;
        for key in keys {
            let Some(original) = self.flows.read(key)?.filter(FlowEntry::is_original) else {
                continue;
            };
            let other = original.other_key(key.protocol);
            if let Some(reply) = self.flows.read(&other)? {
                visit(Flow {
                    original: A::key(key),
                    original_entry: A::entry(&pending.settled(key, original)),
                    reply: A::key(&other),
                    reply_entry: A::entry(&pending.settled(&other, reply)),
                });
            }
        }
        Ok(())
    }
}

impl View {
    /// Events that the ring had no room for.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn events_lost(&self) -> anyhow::Result<u64> {
        let counts = self.events_lost.get(&0, 0)?;
        Ok(counts.iter().sum())
    }
}

/// `None` for what no program of this version writes.
fn decode(bytes: &[u8]) -> Option<Event> {
    if bytes.len() == size_of::<FlowEvent<V4>>() {
        read::<V4>(bytes)?.event()
    } else {
        read::<V6>(bytes)?.event()
    }
}

fn read<A: Family>(bytes: &[u8]) -> Option<Raw<A>> {
    if bytes.len() != size_of::<FlowEvent<A>>() {
        return None;
    }
    // SAFETY: so many bytes are there, and any are a valid event.
    Some(Raw(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) }))
}

/// As it was in the ring.
struct Raw<A>(FlowEvent<A>);

impl<A: Family> Raw<A> {
    fn event(&self) -> Option<Event> {
        let raw = &self.0;
        let what = match raw.kind {
            OPENED => Happening::Opened,
            ESTABLISHED => Happening::Established,
            CLOSED => Happening::Closed,
            _ => return None,
        };
        let original = self.entry(&raw.reply_key, raw.original_seen, raw.original);
        let reply = self.entry(&raw.original_key, raw.reply_seen, raw.reply);
        Some(Event {
            what,
            at: Duration::from_nanos(raw.at),
            flow: Flow {
                original: A::key(&raw.original_key),
                original_entry: A::entry(&original),
                reply: A::key(&raw.reply_key),
                reply_entry: A::entry(&reply),
            },
        })
    }

    /// An entry of the direction whose packets are translated to the reverse of `other`, with all that is asked of a
    /// flow that is gone.
    fn entry(&self, other: &FlowKey<A>, seen: Seen, counted: Traffic) -> FlowEntry<A> {
        let raw = &self.0;
        FlowEntry {
            rewrite: Rewrite::to(&other.reversed()),
            last_seen: raw.last_seen,
            bytes: counted.bytes,
            packets_low: counted.packets as u32,
            packets_high: (counted.packets >> 32) as u16,
            seen,
            flags: raw.flags,
            created: raw.created,
            rule: raw.rule,
            ..FlowEntry::default()
        }
    }
}
