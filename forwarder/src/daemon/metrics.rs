//! What the daemon tells Prometheus, and where.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use forwarder_common::{ABI, tcp::State};
use tracing::info;

use super::{
    describe,
    published::{BUCKETS, Figures, Published, Setup},
    report::protocol,
};
use crate::{
    config::Metrics,
    datapath::{Census, Fill, Pool, Views, family_name},
    events::{Hub, Totals},
    metrics::{
        FlowCount, Listener, MetricsError, PoolCount, RuleTotals, Server, Snapshot, Source,
        SweepTotals, Swept,
    },
    report::Kind,
};

/// Pools of source ports that have metrics: more would be too much for a scrape.
const MAX_POOLS: usize = 1000;

/// Answers scrapes.
pub(super) struct Exporter {
    pub view: Views,
    pub published: Arc<Published>,
    pub started: SystemTime,
    pub hub: Arc<Hub>,
}

impl Source for Exporter {
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let setup = self.published.setup()?;
        let figures = self.published.figures();
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH);
        Ok(Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: ABI,
            started: started.unwrap_or_default().as_secs_f64(),
            generation: self.view.now().settings()?.generation,
            interfaces: setup.interfaces.clone(),
            rules: self.rules(&setup)?,
            reasons: self.view.now().reasons()?,
            tables: setup.fill.clone(),
            sweeps: figures.totals(),
            swept: figures.swept(&setup),
            events: self.events()?,
        })
    }
}

impl Exporter {
    /// What the ring has lost is read anew: its reader sleeps while nobody listens.
    fn events(&self) -> anyhow::Result<Totals> {
        self.hub.ring_has_lost(self.view.now().events_lost()?);
        Ok(self.hub.totals())
    }

    fn rules(&self, setup: &Setup) -> anyhow::Result<Vec<RuleTotals>> {
        let named = setup.names.iter();
        let totals = named.map(|(slot, name)| {
            let count = self.view.now().rule_count(*slot)?;
            Ok(RuleTotals {
                name: name.clone(),
                by_hook: count.by_hook,
                opened: count.opened,
            })
        });
        totals.collect()
    }
}

impl Figures {
    fn totals(&self) -> SweepTotals {
        let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
        SweepTotals {
            durations: bounds.zip(self.durations).collect(),
            seconds: self.total.as_secs_f64(),
            removed: self.removed,
        }
    }

    fn swept(&self, setup: &Setup) -> Option<Swept> {
        let (pools, pools_left_out) = pools(&self.census, setup);
        Some(Swept {
            age: self.taken?.elapsed().as_secs_f64(),
            flows: flows(&self.census, setup),
            tables: tables(&self.census, setup),
            pools,
            pools_left_out,
        })
    }
}

/// Flows by rule, protocol and state. What a configured rule can have is there even if it is 0.
fn flows(census: &Census, setup: &Setup) -> Vec<FlowCount> {
    let mut counts: BTreeMap<(String, &str, &str), u64> = BTreeMap::new();
    for rule in describe::rules(&setup.config) {
        let echo = (rule.kind == Kind::Masquerade).then_some("icmp");
        let known = ["tcp", "udp"].into_iter();
        let known = known.filter(|name| rule.protocol.split(',').any(|one| one == *name));
        for protocol in known.chain(echo) {
            for state in states(protocol) {
                counts.insert((rule.name.clone(), protocol, state.name()), 0);
            }
        }
    }
    for ((slot, number), states) in &census.flows {
        let name = setup.names.get(slot).cloned().unwrap_or_default();
        for (state, count) in State::ALL.into_iter().zip(states) {
            if *count != 0 {
                let id = (name.clone(), protocol(*number), state.name());
                *counts.entry(id).or_default() += count;
            }
        }
    }
    let counts = counts.into_iter();
    let counts = counts.map(|((rule, protocol, state), count)| FlowCount {
        rule,
        protocol,
        state,
        count,
    });
    counts.collect()
}

/// The states that flows of a protocol have.
fn states(protocol: &str) -> impl Iterator<Item = State> {
    let tcp = protocol == "tcp";
    let without_tcp = |state: &State| matches!(state, State::Unreplied | State::Stream);
    State::ALL
        .into_iter()
        .filter(move |state| without_tcp(state) != tcp)
}

fn tables(census: &Census, setup: &Setup) -> Vec<Fill> {
    let (flows, half_open) = (setup.sizes.flows, setup.sizes.half_open);
    let kinds = [
        ("flows", census.established, flows),
        ("half-open", census.half_open, half_open),
        ("mappings", census.mappings, flows),
    ];
    let tables = kinds.into_iter().flat_map(|(table, used, limit)| {
        [false, true].map(|is_ipv6| Fill {
            table,
            family: Some(family_name(is_ipv6)),
            used: used[usize::from(is_ipv6)],
            limit: u64::from(limit),
        })
    });
    tables.collect()
}

/// The fullest pools, and how many there are besides them.
fn pools(census: &Census, setup: &Setup) -> (Vec<PoolCount>, u64) {
    let mut pools: Vec<(&Pool, u64)> = census
        .pools
        .iter()
        .map(|(pool, used)| (pool, *used))
        .collect();
    let left_out = pools.len().saturating_sub(MAX_POOLS);
    if left_out != 0 {
        // Of pools that are equally full always the same ones, lest series come and go.
        pools.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        pools.truncate(MAX_POOLS);
    }
    let ports = u64::from(setup.ports);
    let pools = pools.into_iter().map(|(pool, used)| PoolCount {
        rule: setup.names.get(&pool.rule).cloned().unwrap_or_default(),
        protocol: protocol(pool.protocol),
        source: pool.source.to_string(),
        backend: match pool.backend {
            Some(backend) => backend.to_string(),
            None => "any".to_owned(),
        },
        used,
        free: ports.saturating_sub(used),
    });
    (pools.collect(), left_out as u64)
}

/// Where metrics are to be had: nowhere, or on one address, which a reload may change.
pub(super) struct Endpoint {
    source: Arc<Exporter>,
    server: Mutex<Option<Server>>,
}

impl Endpoint {
    pub(super) fn new(source: Exporter) -> Self {
        Self {
            source: Arc::new(source),
            server: Mutex::new(None),
        }
    }

    /// Serves what was taken at the start, if anything was.
    ///
    /// # Errors
    /// There can be no further thread.
    pub(super) fn serve(&self, listener: Option<Listener>) -> Result<(), MetricsError> {
        let Some(listener) = listener else {
            return Ok(());
        };
        info!("metrics are on http://{}/metrics", listener.address());
        let server = listener.serve(Arc::clone(&self.source) as Arc<dyn Source>)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    /// Serves on another address, or not at all. An address that is not to be had changes nothing.
    ///
    /// # Errors
    /// Why it is not to be had.
    pub(super) fn change(&self, wanted: Option<Metrics>) -> Result<(), MetricsError> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let before = server.as_ref().map(Server::address);
        let wanted = wanted.map(|metrics| metrics.listen);
        if before == wanted {
            return Ok(());
        }
        let source = || Arc::clone(&self.source) as Arc<dyn Source>;
        let Some(wanted) = wanted else {
            *server = None;
            return Ok(());
        };
        // Two addresses may exclude each other on one port: then the old one must go first.
        if before.is_some_and(|before| before.port() == wanted.port()) {
            *server = None;
        }
        let taken = Listener::bind(wanted).and_then(|listener| listener.serve(source()));
        match (taken, before) {
            (Ok(new), _) => *server = Some(new),
            (Err(error), Some(before)) if server.is_none() => {
                *server = Some(Listener::bind(before)?.serve(source())?);
                return Err(error);
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }
}
