//! What the flow caches have counted and the flow tables do not have yet, see [`forwarder_common::cache`].

use std::collections::HashMap;

use forwarder_common::{
    cache::{self, Cached, EPOCH_STEP},
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
    pending: cache::Pending,
}

impl<A: Family> Pending<A> {
    /// What is pending in these places. To be read before the entries: what is added to an entry meanwhile is then
    /// counted twice for a moment, and not missed.
    pub(super) fn read(
        counts: &Batch<u32, cache::Pending>,
        places: &Batch<u32, Cached<A>>,
    ) -> anyhow::Result<Self> {
        let mut counted = HashMap::new();
        counts.for_each(|place, pending| {
            if pending.packets != 0 {
                counted.insert(*place, *pending);
            }
        })?;
        let mut found: HashMap<_, Vec<Counted>> = HashMap::new();
        if counted.is_empty() {
            return Ok(Self(found));
        }
        places.for_each(|place, cached| {
            if let Some(pending) = counted.get(place) {
                found.entry(cached.key).or_default().push(Counted {
                    place: *place,
                    pending: *pending,
                });
            }
        })?;
        Ok(Self(found))
    }

    /// `entry` of `key` as it would be if nothing was pending.
    pub(super) fn settled(&self, key: &FlowKey<A>, mut entry: FlowEntry<A>) -> FlowEntry<A> {
        let created = entry.created;
        let places = self.0.get(key).into_iter().flatten();
        let pending = places.map(|counted| counted.pending);
        for pending in pending.filter(|pending| pending.created == created) {
            entry.count(pending.packets, pending.bytes);
            entry.last_seen = later(entry.last_seen, pending.last_seen);
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
        Pending::read(&self.pending.all, &self.cache.all)
    }

    /// Empties the places of flows that are gone, so that nothing of theirs is added to new ones.
    pub(super) fn empty_places(&mut self, gone: &[FlowKey<A>]) -> anyhow::Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let pending = self.pending()?;
        let places = gone.iter().filter_map(|key| pending.0.get(key)).flatten();
        for counted in places {
            self.cache.one.set(counted.place, Cached::default(), 0)?;
            let nothing = cache::Pending::default();
            self.pending.one.set(counted.place, nothing, 0)?;
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
        let each = self
            .v4
            .cache
            .all
            .capacity()
            .min(self.v6.cache.all.capacity())
            / cpus.max(1);
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
