//! What listings and metrics need besides the maps, published whenever it has changed: who asks waits neither for a
//! sweep nor for a reload, and holds neither up.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::running::State;
use crate::{
    config::Config,
    datapath::{Census, Clock, Fill, Sizes, Swept},
    network::Network,
    report::InterfaceStatus,
};

/// What changes with the configuration and the network.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub config: Arc<Config>,
    /// By slot, rules that are gone but have flows included.
    pub names: Arc<BTreeMap<u32, String>>,
    pub network: Arc<Network>,
    pub interfaces: Vec<InterfaceStatus>,
    /// Of the tables that change with rules and network.
    pub fill: Vec<Fill>,
    pub sizes: Sizes,
    /// Source ports that translation may give.
    pub ports: u32,
}

/// What the sweeps have found and done.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// The datapath's clock, and when it was read.
    pub clock: (Clock, Instant),
    /// When the last sweep ended; `None` before the first.
    pub taken: Option<Instant>,
    pub census: Census,
    /// How long each sweep took, by [`BUCKETS`]; the last one is of those that took longer.
    pub durations: [u64; BUCKETS.len() + 1],
    pub total: Duration,
    /// Flows that sweeps have removed.
    pub removed: u64,
}

/// Upper bounds of a sweep's time in seconds: a small table takes milliseconds, millions of flows take seconds.
pub(super) const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0];

impl Figures {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock: (clock, Instant::now()),
            taken: None,
            census: Census::default(),
            durations: [0; BUCKETS.len() + 1],
            total: Duration::ZERO,
            removed: 0,
        }
    }

    /// With one more sweep, which began at `began` by the datapath's `clock`.
    fn and(&self, swept: Swept, clock: Clock, began: Instant) -> Self {
        let took = began.elapsed();
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
        let mut durations = self.durations;
        durations[bucket] += 1;
        Self {
            clock: (clock, began),
            taken: Some(Instant::now()),
            census: swept.census,
            durations,
            total: self.total + took,
            removed: self.removed + swept.removed,
        }
    }

    /// The datapath's clock now.
    pub(super) fn now(&self) -> Clock {
        let (clock, read) = self.clock;
        let ticks = read.elapsed().as_millis() as u64 * clock.hz / 1000;
        Clock {
            now: clock.now + ticks,
            ..clock
        }
    }
}

/// The latest of both.
#[derive(Debug)]
pub(super) struct Published {
    setup: Mutex<Option<Arc<Setup>>>,
    figures: Mutex<Arc<Figures>>,
}

impl Published {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            setup: Mutex::new(None),
            figures: Mutex::new(Arc::new(Figures::new(clock))),
        }
    }

    /// # Errors
    /// The daemon has not got so far.
    pub(super) fn setup(&self) -> anyhow::Result<Arc<Setup>> {
        let setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        setup
            .clone()
            .ok_or_else(|| anyhow::anyhow!("the forwarder is still starting; ask again"))
    }

    pub(super) fn figures(&self) -> Arc<Figures> {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&figures)
    }

    pub(super) fn publish_setup(&self, setup: Setup) {
        let mut place = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Arc::new(setup));
    }

    pub(super) fn publish_sweep(&self, swept: Swept, clock: Clock, began: Instant) {
        let mut place = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Arc::new(place.and(swept, clock, began));
    }
}

impl State {
    /// What is to be published of this state.
    pub(super) fn setup(&self) -> anyhow::Result<Setup> {
        Ok(Setup {
            config: Arc::clone(&self.config),
            names: Arc::new(self.datapath.rule_names()),
            network: Arc::new(self.network.clone()),
            interfaces: self.interfaces(),
            fill: self.datapath.fill()?,
            sizes: self.datapath.sizes(),
            ports: self.datapath.source_ports()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_add_up() {
        let clock = Clock { now: 7, hz: 1000 };
        let swept = |removed| Swept {
            removed,
            ..Swept::default()
        };
        let long_ago = Instant::now() - Duration::from_secs(30);
        let figures = Figures::new(clock).and(swept(2), clock, long_ago);
        let figures = figures.and(swept(3), clock, long_ago);
        assert_eq!(figures.removed, 5);
        assert!(figures.total >= Duration::from_secs(60));
        // Longer than the last bound.
        assert_eq!(figures.durations, [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        // The clock was read half a minute ago.
        assert!(figures.now().now >= 30_007);
    }
}
