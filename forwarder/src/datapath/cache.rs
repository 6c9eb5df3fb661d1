//! What the flow caches have counted and the flow tables do not have yet, see [`forwarder_common::cache`].

use std::collections::HashMap;

use forwarder_common::{
    cache::{Cached, EPOCH_STEP},
    flow::{FlowEntry, FlowKey},
};

use super::{
    Datapath,
    batch::Batch,
    family::Family,
    tables::{FamilyTables, Tables},
};

/// What is to be added to entries, by tuple.
pub(super) struct Pending<A: Family>(HashMap<FlowKey<A>, Vec<Counted>>);

/// One place.
#[derive(Clone, Copy)]
struct Counted {
    place: u32,
    created: u32,
    packets: u64,
    bytes: u64,
    last_seen: u32,
}

impl<A: Family> Pending<A> {
    /// What is pending in these places. To be read before the entries: what is added to an entry meanwhile is then
    /// counted twice for a moment, and not missed.
    pub(super) fn read(places: &Batch<u32, Cached<A>>) -> anyhow::Result<Self> {
        let mut pending: HashMap<_, Vec<Counted>> = HashMap::new();
        places.for_each(|place, cached| {
            if cached.packets != 0 {
                pending.entry(cached.key).or_default().push(Counted {
                    place: *place,
                    created: cached.created,
                    packets: u64::from(cached.packets),
                    bytes: cached.bytes,
                    last_seen: cached.last_seen,
                });
            }
        })?;
        Ok(Self(pending))
    }

    /// `entry` of `key` as it would be if nothing was pending.
    pub(super) fn settled(&self, key: &FlowKey<A>, mut entry: FlowEntry<A>) -> FlowEntry<A> {
        let places = self.0.get(key).into_iter().flatten();
        for counted in places.filter(|place| place.created == entry.created) {
            entry.packets += counted.packets;
            entry.bytes += counted.bytes;
            entry.last_seen = later(entry.last_seen, counted.last_seen);
        }
        entry
    }
}

/// The later of two readings of a clock that wraps.
fn later(one: u32, other: u32) -> u32 {
    if other.wrapping_sub(one) < 1 << 31 {
        other
    } else {
        one
    }
}

impl<A: Family> FamilyTables<A> {
    /// See [`Pending::read`].
    pub(super) fn pending(&self) -> anyhow::Result<Pending<A>> {
        Pending::read(&self.cache)
    }

    /// Empties the places of flows that are gone, so that nothing of theirs is added to new ones.
    pub(super) fn empty_places(&mut self, gone: &[FlowKey<A>]) -> anyhow::Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let pending = self.pending()?;
        let places = gone.iter().filter_map(|key| pending.0.get(key)).flatten();
        for counted in places {
            self.places.set(counted.place, Cached::default(), 0)?;
        }
        Ok(())
    }
}

impl Tables {
    /// Has every packet's flow be looked up anew.
    pub(super) fn forget_cached(&mut self) -> anyhow::Result<()> {
        let mut state = self.cache_state.get(&0, 0)?;
        state.epoch = state.epoch.wrapping_add(EPOCH_STEP);
        Ok(self.cache_state.set(0, state, 0)?)
    }

    /// Tells the programs how many places each CPU has: of adopted maps, what they were made with.
    pub(super) fn divide_cache(&mut self, cpus: u32) -> anyhow::Result<()> {
        let each = self.v4.cache.capacity().min(self.v6.cache.capacity()) / cpus.max(1);
        let mut state = self.cache_state.get(&0, 0)?;
        state.bits = u64::from(each.max(2).ilog2());
        Ok(self.cache_state.set(0, state, 0)?)
    }
}

impl Datapath {
    /// Has every packet's flow be looked up anew, as after a change that no reload makes.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn forget_cached(&mut self) -> anyhow::Result<()> {
        self.tables.forget_cached()
    }
}
