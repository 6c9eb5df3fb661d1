//! Taking everything away again.

use aya::maps::{Array, Map, MapData};
use forwarder_common::settings::Settings;

use super::{
    Pins,
    attach::{Side, detach_legacy},
};

/// What [`detach_all`] took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Pins removed.
    pub pins: usize,
    /// Where the daemon had switched forwarding on for `lo`, so that it is to be switched off again:
    /// [`forwarder_common::settings::FORWARDING_V4`] and its kin.
    pub loopback_forwarding: u32,
}

/// Takes everything off and removes every pin.
///
/// # Errors
/// A pin cannot be removed.
pub fn detach_all(pins: &Pins) -> anyhow::Result<Detached> {
    let loopback_forwarding = settings(pins).map_or(0, |one| one.loopback_forwarding);
    for (_, hook, index) in pins.links()? {
        if let Some(side) = Side::of_legacy(&hook) {
            detach_legacy(index, side);
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
