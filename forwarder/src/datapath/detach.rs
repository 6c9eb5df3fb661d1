//! Taking everything away again.

use aya::maps::{Array, Map, MapData};
use forwarder_common::settings::Settings;

use super::{
    Pins,
    attach::{LEGACY, detach_legacy},
};

/// What [`detach_all`] took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Pins removed.
    pub pins: usize,
    /// Whether the daemon had switched forwarding on for `lo`, so that it is to be switched off again.
    pub loopback_forwarding: bool,
}

/// Takes everything off and removes every pin.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach_all(pins: &Pins) -> anyhow::Result<Detached> {
    let loopback_forwarding = settings(pins).is_ok_and(|one| one.loopback_forwarding != 0);
    for (_, hook, index) in pins.links()? {
        if hook == LEGACY {
            detach_legacy(index);
        }
    }
    Ok(Detached {
        pins: pins.remove()?,
        loopback_forwarding,
    })
}

fn settings(pins: &Pins) -> anyhow::Result<Settings> {
    let map = Map::Array(MapData::from_pin(pins.map("SETTINGS"))?);
    let settings: Array<MapData, Settings> = map.try_into()?;
    Ok(settings.get(&0, 0)?)
}
