//! What the flow caches have counted and the flow tables do not have yet, see [`forwarder_common::cache`].

use std::collections::HashMap;

use forwarder_common::{
    cache::{Cached, Counted, EPOCH_STEP, Set},
    flow::{FlowEntry, FlowKey},
};

use super::{
    Datapath,
    batch::Batch,
    family::Family,
    tables::{FamilyTables, Tables},
};

/// What is to be added to entries, by tuple.
pub(super) struct Pending<A: Family>(HashMap<FlowKey<A>, Vec<Place>>);

/// A place in which something is counted.
#[derive(Clone, Copy)]
struct Place {
    set: usize,
    way: usize,
    counted: Counted,
}

impl<A: Family> Pending<A> {
    /// What is pending in these places. To be read before the entries: what is added to an entry meanwhile is then
    /// counted twice for a moment, and not missed.
    pub(super) fn read(sets: &Batch<u32, Set<A>>) -> anyhow::Result<Self> {
        let mut found: HashMap<_, Vec<_>> = HashMap::new();
        sets.for_each(|number, set| {
            for (way, cached) in set.0.iter().enumerate() {
                let counted = cached.counted();
                if counted.packets != 0 {
                    found.entry(cached.key()).or_default().push(Place {
                        set: *number as usize,
                        way,
                        counted,
                    });
                }
            }
        })?;
        Ok(Self(found))
    }

    /// `entry` of `key` as it would be if nothing was pending.
    pub(super) fn settled(&self, key: &FlowKey<A>, mut entry: FlowEntry<A>) -> FlowEntry<A> {
        for place in self.0.get(key).into_iter().flatten() {
            place.counted.settle(&mut entry);
        }
        entry
    }
}

impl<A: Family> FamilyTables<A> {
    /// See [`Pending::read`].
    pub(super) fn pending(&self) -> anyhow::Result<Pending<A>> {
        Pending::read(&self.cache)
    }

    /// Empties the places of flows that are gone, so that nothing of theirs is added to new ones.
    pub(super) fn empty_places(&self, gone: &[FlowKey<A>]) -> anyhow::Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let pending = self.pending()?;
        for place in gone.iter().filter_map(|key| pending.0.get(key)).flatten() {
            if let Some(set) = self.sets.entry(place.set) {
                // SAFETY: a live set.
                let counted = unsafe { &raw mut (*set.as_ptr()).0[place.way] };
                Cached::empty(counted);
            }
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

    /// Tells the programs how many sets of places each CPU has: of adopted maps, what they were made with.
    pub(super) fn divide_cache(&mut self, cpus: u32) -> anyhow::Result<()> {
        let bits = |sets: u32| (sets / cpus.max(1)).max(2).ilog2();
        let mut state = self.cache_state.get(&0, 0)?;
        state.bits = [
            bits(self.v4.cache.capacity()),
            bits(self.v6.cache.capacity()),
        ];
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
