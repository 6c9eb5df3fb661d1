//! The maps that are only read, on descriptors of their own: who lists flows or counters waits for nobody who sweeps
//! or changes rules, nor they for him.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, Map, MapData, PerCpuArray, PerCpuHashMap},
};
use forwarder_common::{
    address::{V4, V6},
    cache::Set,
    flow::{FlowEntry, FlowKey},
    last::LastPacket,
    settings::Settings,
    stats::{RuleTraffic, ShadowKey, ShadowTraffic},
};

use super::{batch::Batch, family::Family, object::descriptor};

/// Counters and flows, for reading.
pub struct View {
    pub(super) v4: FamilyView<V4>,
    pub(super) v6: FamilyView<V6>,
    pub(super) rule_traffic: PerCpuArray<MapData, RuleTraffic>,
    pub(super) rule_opened: PerCpuArray<MapData, u64>,
    pub(super) shadow: PerCpuHashMap<MapData, ShadowKey, ShadowTraffic>,
    pub(super) reasons: PerCpuArray<MapData, u64>,
    pub(super) last: PerCpuArray<MapData, LastPacket>,
    pub(super) settings: Array<MapData, Settings>,
    pub(super) events_lost: PerCpuArray<MapData, u64>,
}

/// The flows of one family.
pub(super) struct FamilyView<A: Family> {
    pub(super) flows: Batch<FlowKey<A>, FlowEntry<A>>,
    pub(super) cache: Batch<u32, Set<A>>,
}

/// The view that there is now: with programs that are loaded anew come some other maps.
#[derive(Clone)]
pub struct Views(Arc<Mutex<Arc<View>>>);

impl Views {
    pub(super) fn new(view: View) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(view))))
    }

    /// That view.
    pub fn now(&self) -> Arc<View> {
        Arc::clone(&self.lock())
    }

    /// Whoever asks from now on gets `view`.
    pub(super) fn renew(&self, view: Arc<View>) {
        *self.lock() = view;
    }

    fn lock(&self) -> MutexGuard<'_, Arc<View>> {
        // What is in it is replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Of an object whose maps have not been taken yet.
    pub(super) fn of(ebpf: &Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            v4: FamilyView::of(ebpf)?,
            v6: FamilyView::of(ebpf)?,
            rule_traffic: typed(ebpf, "RULE_TRAFFIC")?,
            rule_opened: typed(ebpf, "RULE_OPENED")?,
            shadow: typed(ebpf, "SHADOW")?,
            reasons: typed(ebpf, "REASONS")?,
            last: typed(ebpf, "LAST")?,
            settings: typed(ebpf, ".bss.settings")?,
            events_lost: typed(ebpf, "EVENTS_LOST")?,
        })
    }

    /// The settings record.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Ok(self.settings.get(&0, 0)?)
    }
}

impl<A: Family> FamilyView<A> {
    fn of(ebpf: &Ebpf) -> anyhow::Result<Self> {
        Ok(Self {
            flows: batch(ebpf, &format!("FLOWS_{}", A::SUFFIX))?,
            cache: batch(ebpf, &format!("CACHE_{}", A::SUFFIX))?,
        })
    }
}

/// A map for whole-table work, on a descriptor of its own.
pub(super) fn batch<K: aya::Pod, V: aya::Pod>(
    ebpf: &Ebpf,
    name: &str,
) -> anyhow::Result<Batch<K, V>> {
    let (descriptor, capacity) = descriptor(ebpf, name)?;
    Ok(Batch::new(descriptor, capacity))
}

/// A typed map on a descriptor of its own.
pub(super) fn typed<M: TryFrom<Map>>(ebpf: &Ebpf, name: &str) -> anyhow::Result<M>
where
    M::Error: std::error::Error + Send + Sync + 'static,
{
    let (descriptor, _) = descriptor(ebpf, name)?;
    let map = Map::from_map_data(MapData::from_fd(descriptor)?)?;
    M::try_from(map).with_context(|| format!("the map `{name}` is of another type"))
}
