//! The tables of one packet's trial: the flows in force are read, and those of the trial are its own.

use std::{io::ErrorKind::NotFound, net::SocketAddr};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError, PerCpuArray},
};
use forwarder_common::{
    entries::Entries,
    flow::{FlowEntry, FlowKey},
    mapping::{INSIDE, Mapping, MappingKey, OUTSIDE},
    parse::UDP,
    rule::{ListenerKey, OUTBOUND, RuleEntry},
};

use super::{
    Entry, Key, Pins,
    family::Family,
    object::take,
    trial::{Met, pinned},
};

/// A flow table.
type Flows<A> = HashMap<MapData, FlowKey<A>, FlowEntry<A>>;
/// A table of mappings.
type Mappings<A> = HashMap<MapData, MappingKey<A>, Mapping<A>>;

/// Those of one address family.
pub(super) struct TrialTables<A: Family>
where
    Entries<A>: Pod,
{
    /// Flows of the trial.
    own: Flows<A>,
    /// Those in force.
    live: Flows<A>,
    own_mappings: Mappings<A>,
    live_mappings: Mappings<A>,
    listeners: HashMap<MapData, ListenerKey<A>, RuleEntry<A>>,
    /// What the stages told each other.
    entries: PerCpuArray<MapData, Entries<A>>,
}

impl<A: Family> TrialTables<A>
where
    Entries<A>: Pod,
{
    pub(super) fn take(ebpf: &mut Ebpf, pins: &Pins) -> anyhow::Result<Self> {
        let name = |table: &str| format!("{table}_{}", A::SUFFIX);
        Ok(Self {
            own: take(ebpf, &name("FLOWS"))?,
            live: pinned(pins, &name("FLOWS"))?,
            own_mappings: take(ebpf, &name("MAPPINGS"))?,
            live_mappings: pinned(pins, &name("MAPPINGS"))?,
            listeners: take(ebpf, &name("LISTENERS"))?,
            entries: take(ebpf, &name("ENTRIES"))?,
        })
    }

    /// Copies what is known of `key`: its flow, and mappings. Returns that flow, this direction first.
    pub(super) fn begin(&mut self, key: &Key) -> anyhow::Result<Option<[Entry; 2]>> {
        let Some(key) = A::of_key(key) else {
            return Ok(None);
        };
        if key.protocol == UDP {
            self.begin_mapping(socket(key.source, key.source_port_be, INSIDE))?;
            self.begin_mapping(socket(key.destination, key.destination_port_be, OUTSIDE))?;
        }
        let Some(entry) = get(&self.live, &key)? else {
            return Ok(None);
        };
        let other = entry.other_key(key.protocol);
        // One without the other is about to go.
        let Some(back) = get(&self.live, &other)? else {
            return Ok(None);
        };
        self.own.insert(key, entry, 0)?;
        self.own.insert(other, back, 0)?;
        Ok(Some([A::entry(&entry), A::entry(&back)]))
    }

    /// Copies both sides of a mapping.
    fn begin_mapping(&mut self, one: MappingKey<A>) -> anyhow::Result<()> {
        let Some(mapping) = get(&self.live_mappings, &one)? else {
            return Ok(());
        };
        self.own_mappings.insert(one, mapping, 0)?;
        let side = if one.side == INSIDE { OUTSIDE } else { INSIDE };
        let other = socket(mapping.address, mapping.port_be, side);
        if let Some(mapping) = get(&self.live_mappings, &other)? {
            self.own_mappings.insert(other, mapping, 0)?;
        }
        Ok(())
    }

    /// The trial's flow of `key`, this direction first.
    pub(super) fn flow(&self, key: &Key) -> anyhow::Result<Option<[Entry; 2]>> {
        let Some(key) = A::of_key(key) else {
            return Ok(None);
        };
        let Some(entry) = get(&self.own, &key)? else {
            return Ok(None);
        };
        let back = get(&self.own, &entry.other_key(key.protocol))?;
        Ok(back.map(|back| [A::entry(&entry), A::entry(&back)]))
    }

    /// Whether a flow in force has the port that the trial's was given. Then that one is put in the way, and the trial's
    /// flow is gone.
    pub(super) fn gives_way(&mut self, key: &Key) -> anyhow::Result<bool> {
        let Some(key) = A::of_key(key) else {
            return Ok(false);
        };
        let Some(entry) = get(&self.own, &key)? else {
            return Ok(false);
        };
        let reply = entry.other_key(key.protocol);
        let there = get(&self.live, &reply)?;
        if let Some(there) = there.filter(|there| there.other_key(key.protocol) != key) {
            self.forget(&key, &reply)?;
            self.own.insert(reply, there, 0)?;
            return Ok(true);
        }
        // Where one client socket is one port, the port may be another's without a flow to this server.
        let outside = socket(reply.destination, reply.destination_port_be, OUTSIDE);
        let (own, live) = (
            get(&self.own_mappings, &outside)?,
            get(&self.live_mappings, &outside)?,
        );
        match (own, live) {
            (Some(own), Some(live))
                if (own.address, own.port_be) != (live.address, live.port_be) =>
            {
                self.forget(&key, &reply)?;
                self.own_mappings.insert(outside, live, 0)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn forget(&mut self, key: &FlowKey<A>, reply: &FlowKey<A>) -> anyhow::Result<()> {
        for key in [key, reply] {
            absent_is_fine(self.own.remove(key))?;
        }
        let inside = socket(key.source, key.source_port_be, INSIDE);
        absent_is_fine(self.own_mappings.remove(&inside))
    }

    /// How far the packet got that opens a flow.
    pub(super) fn met(&self, key: &Key) -> anyhow::Result<Option<Met>> {
        let Some(key) = A::of_key(key) else {
            return Ok(None);
        };
        let entries = self.entries.get(&0, 0)?;
        let Some(entries) = entries.iter().find(|entries| entries.from == key) else {
            return Ok(None);
        };
        let listener = &entries.listener;
        let is_decided = entries.to != FlowKey::default() && entries.to.protocol == key.protocol;
        let target = is_decided.then(|| {
            let port = u16::from_be(entries.to.destination_port_be);
            SocketAddr::new(entries.to.destination.ip(), port)
        });
        Ok(match get(&self.listeners, listener)? {
            Some(rule) => Some(Met::new(rule.rule, rule.clients, target)),
            // Of this rule's clients, but not of its ports.
            None if listener.interface & OUTBOUND != 0 => {
                Some(Met::new(listener.interface & !OUTBOUND, 0, None))
            }
            None => None,
        })
    }
}

fn socket<A: Family>(address: A, port_be: u16, side: u8) -> MappingKey<A> {
    MappingKey {
        address,
        port_be,
        protocol: UDP,
        side,
    }
}

fn get<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, key: &K) -> anyhow::Result<Option<V>> {
    match map.get(key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn absent_is_fine(removed: Result<(), MapError>) -> anyhow::Result<()> {
    match removed {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}
