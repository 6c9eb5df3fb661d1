//! Maps that programs reach by address: sections of the object, each of which is an array of one record.

use aya::{
    EbpfLoader, Pod,
    maps::{Array, Map, MapData},
};
use forwarder_common::{cache::CacheState, concern::ALL_WORDS, settings::Settings};

use super::pins::Pins;

/// The sections.
pub(super) const SECTIONS: [&str; 5] = [
    ".bss.settings",
    ".bss.cache_state",
    ".bss.concerns_v4",
    ".bss.concerns_v6",
    ".bss.event_kinds",
];

/// What the records of an earlier daemon hold. aya writes the object's own bytes into every section, also where that is
/// a pinned map which is at work: so they are made those that are there.
pub(super) struct Globals {
    settings: Settings,
    cache_state: CacheState,
    concerns: [[u64; ALL_WORDS as usize]; 2],
    event_kinds: u32,
}

impl Globals {
    /// Reads what is under `pins`; all zeros where nothing is.
    pub(super) fn read(pins: Option<&Pins>) -> anyhow::Result<Self> {
        let [settings, cache_state, v4, v6, event_kinds] = SECTIONS;
        Ok(Self {
            settings: record(pins, settings)?.unwrap_or_default(),
            cache_state: record(pins, cache_state)?.unwrap_or_default(),
            concerns: [
                record(pins, v4)?.unwrap_or([0; ALL_WORDS as usize]),
                record(pins, v6)?.unwrap_or([0; ALL_WORDS as usize]),
            ],
            event_kinds: record(pins, event_kinds)?.unwrap_or_default(),
        })
    }

    /// Has `loader` keep it. What programs write meanwhile, which is the epoch only, may be lost.
    pub(super) fn keep<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        let [v4, v6] = &self.concerns;
        loader
            .override_global("SETTINGS", &self.settings, true)
            .override_global("CACHE_STATE", &self.cache_state, true)
            .override_global("CONCERNS_V4", v4, true)
            .override_global("CONCERNS_V6", v6, true)
            .override_global("EVENT_KINDS", &self.event_kinds, true);
    }
}

/// The one record of a pinned map.
pub(super) fn record<T: Pod>(pins: Option<&Pins>, section: &str) -> anyhow::Result<Option<T>> {
    let path = pins.map(|pins| pins.map(section));
    let Some(path) = path.filter(|path| path.exists()) else {
        return Ok(None);
    };
    let map = Map::Array(MapData::from_pin(&path)?);
    let array: Array<MapData, T> = map.try_into()?;
    Ok(Some(array.get(&0, 0)?))
}
