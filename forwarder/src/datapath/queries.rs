//! Who may ask for original destinations, and how.

use std::net::IpAddr;

use aya::maps::{Array, HashMap, MapData};
use forwarder_common::{address::V4, query::QuerySettings};

use super::{Datapath, family::Family as _, tables::Tables};
use crate::config::OriginalDestination;

/// What the programs are told of queries.
pub(super) struct Queries {
    pub(super) settings: Array<MapData, QuerySettings>,
    pub(super) proxies: HashMap<MapData, u32, u32>,
}

impl Datapath {
    /// Has queries answered as `wanted` says; `None`: no longer. `own` are this host's addresses, where strangers ask.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn set_queries(
        &mut self,
        wanted: Option<&OriginalDestination>,
        own: impl Iterator<Item = IpAddr>,
    ) -> anyhow::Result<()> {
        let Tables { queries, v4, .. } = &mut self.tables;
        let Some(wanted) = wanted else {
            return Ok(queries.settings.set(0, QuerySettings::default(), 0)?);
        };
        let wanted_proxies: Vec<V4> = wanted.proxies.iter().copied().map(V4::from).collect();
        let mut own: Vec<V4> = own.filter_map(V4::of).collect();
        own.sort_unstable_by_key(|address| address.raw());
        v4.concern_queries(&wanted_proxies, &own)?;
        for proxy in &wanted_proxies {
            queries.proxies.insert(proxy.raw(), 1, 0)?;
        }
        let known: Vec<u32> = queries.proxies.keys().collect::<Result<_, _>>()?;
        for proxy in known {
            if !wanted_proxies.contains(&V4::from_raw(proxy)) {
                queries.proxies.remove(&proxy)?;
            }
        }
        let settings = QuerySettings {
            secret_be: wanted.secret.to_be(),
            port_be: wanted.port.to_be(),
            padding: 0,
        };
        Ok(queries.settings.set(0, settings, 0)?)
    }
}
