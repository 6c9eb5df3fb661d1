//! The running daemon: its configuration, its datapath, and what it knows of the network.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, anyhow};
use forwarder_common::reason::Reason;
use rtnetlink::Handle;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};
use tracing::{debug, info, warn};

use super::{
    RunOptions,
    compare::Comparisons,
    events::{Reading, Telling},
    interfaces::Leaving,
    manager::Manager,
    metrics::{Endpoint, Exporter},
    prompts::Prompts,
    published::Published,
    rates::Rates,
    start,
};
use crate::{
    config::Config,
    datapath::{
        Attached, Clock, Datapath, Flow, Handover, InForce, RuleSet, Swept, Tell, Views, Words,
    },
    fault::{self, Step},
    network::{Change, Network},
    report::counted,
};

/// Shared between the watching loop and the control socket.
pub(super) struct Running {
    state: Mutex<State>,
    pub(super) options: RunOptions,
    pub(super) since: Instant,
    /// Jiffies in a second.
    pub(super) hz: u64,
    /// Flows and counters, for whoever only reads.
    pub(super) view: Views,
    pub(super) published: Arc<Published>,
    pub(super) metrics: Endpoint,
    /// Of reasons.
    pub(super) rates: Mutex<Rates>,
    /// What is watched, beside what netfilter does.
    pub(super) comparisons: Mutex<Comparisons>,
    pub(super) manager: Manager,
    /// Notified when flows were ended, so that the loop sees to the rest of it.
    pub(super) ended: Notify,
    pub(super) telling: Telling,
}

/// What changes while the daemon runs.
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) datapath: Datapath,
    pub(super) network: Network,
    /// By interface name.
    pub(super) attached: BTreeMap<String, Attached>,
    /// What other versions have left, until it is removed.
    pub(super) handover: Option<Handover>,
    /// Whether another's XDP program is to make room for ours.
    pub(super) replace: bool,
    /// Whether somebody captures packets.
    pub(super) capturing: bool,
    /// Interfaces that are configured no more and still serve flows, by name.
    pub(super) leaving: BTreeMap<String, Leaving>,
    /// What ends of connections are still to be sent.
    pub(super) prompts: Prompts,
    /// The counters of reasons at the last look for shortages.
    told: Vec<(Reason, u64)>,
    /// As [`Running::hz`].
    pub(super) hz: u64,
}

impl Running {
    pub(super) fn new(
        config: Config,
        options: RunOptions,
        mut datapath: Datapath,
        clock: Clock,
    ) -> Self {
        // What an earlier daemon has counted, it has told.
        let told = datapath.reasons().unwrap_or_default();
        let published = Arc::new(Published::new(clock));
        let events = datapath.take_events();
        let telling = Telling::new(events, datapath.view(), Arc::clone(&published));
        Self {
            metrics: Endpoint::new(Exporter {
                view: datapath.view(),
                published: Arc::clone(&published),
                started: SystemTime::now(),
                hub: Arc::clone(&telling.hub),
            }),
            view: datapath.view(),
            published,
            rates: Mutex::default(),
            comparisons: Mutex::default(),
            state: Mutex::new(State {
                config: Arc::new(config),
                datapath,
                network: Network::default(),
                attached: BTreeMap::new(),
                handover: None,
                replace: options.replace,
                capturing: false,
                leaving: BTreeMap::new(),
                prompts: Prompts::default(),
                told,
                hz: clock.hz,
            }),
            options,
            since: Instant::now(),
            hz: clock.hz,
            manager: Manager::default(),
            ended: Notify::new(),
            telling,
        }
    }

    /// Begins to tell of flows that begin and end.
    pub(super) fn tell(&self) -> anyhow::Result<Reading> {
        let config = Arc::clone(&self.state().config);
        self.telling.start(&config)
    }

    /// A panic elsewhere cannot leave the maps half-written in a way that matters: every write to them
    /// stands for itself.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the datapath to what the configuration says on the network as it is now.
    pub(super) fn apply(&self, network: Network) -> anyhow::Result<()> {
        let mut state = self.state();
        state.apply(network)?;
        self.published.publish_setup(state.setup()?);
        Ok(())
    }

    /// The same at the start: flows that an earlier daemon has left may be of rules that have changed meanwhile.
    pub(super) fn apply_first(&self, network: Network) -> anyhow::Result<()> {
        let mut state = self.state();
        let in_force = state.apply(network)?;
        self.published.publish_setup(state.setup()?);
        if let Some(sentence) = state.change_flows(&in_force)? {
            info!("{sentence}");
        }
        self.ended.notify_one();
        Ok(())
    }

    /// Follows a change of the network.
    pub(super) async fn follow(&self, change: Change, handle: &Handle) -> anyhow::Result<()> {
        match change {
            Change::None => {}
            Change::Routes => {
                self.state().datapath.bump_generation()?;
            }
            Change::Network => {
                let network = Network::read(handle).await?;
                self.apply(network)?;
            }
        }
        Ok(())
    }

    /// Removes expired flows, and looks whether a device has changed in a way that is not announced.
    pub(super) async fn sweep(&self, handle: &Handle) {
        if let Err(error) = self.sweep_flows() {
            warn!("cannot remove expired flows: {error:#}");
        }
        if let Err(error) = self.compare() {
            warn!("cannot compare what is watched: {error:#}");
        }
        match Network::read(handle).await {
            Ok(network) => {
                let changed = network != self.state().network;
                if changed && let Err(error) = self.apply(network) {
                    warn!("cannot follow a change of the network: {error:#}");
                }
            }
            Err(error) => warn!("cannot look at the network: {error:#}"),
        }
    }

    fn sweep_flows(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut state = self.state();
        let clock = state.datapath.clock(self.hz)?;
        let mut telegraph = self.telling.telling_of_closed(&clock);
        let mut tell = telegraph
            .as_mut()
            .map(|telegraph| |flow: Flow| telegraph.tell(&flow));
        let swept = state.sweep(&clock, tell.as_mut().map(|tell| tell as Tell<'_>))?;
        drop(telegraph);
        self.published.publish_sweep(swept, clock, began);
        let counts = state.told.iter().map(|(_, count)| *count).collect();
        self.rates().note(Instant::now(), counts);
        self.published.publish_setup(state.setup()?);
        Ok(())
    }

    pub(super) fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the programs say in words, to be written to the log.
    pub(super) fn words(&self) -> anyhow::Result<AsyncFd<Words>> {
        let words = self.state().datapath.take_words();
        let words = words.context("the programs' messages are read already")?;
        // SAFETY: the descriptor is the ring buffer's, which `Words` owns for as long as it lives.
        let words = unsafe { AsyncFd::register_with_interest(words, Interest::READABLE) };
        words.map_err(|_| anyhow!("cannot wait for the programs' messages"))
    }

    /// Often enough that the shortest timeout is kept within a quarter, at most every ten seconds.
    pub(super) fn sweep_interval(&self) -> Duration {
        let timeouts = self.state().config.timeouts;
        let shortest = timeouts
            .udp
            .min(timeouts.udp_stream)
            .min(timeouts.tcp_half_open)
            .min(timeouts.tcp_transitory)
            .min(timeouts.tcp_established)
            .min(timeouts.icmp)
            .min(timeouts.drain);
        (shortest / 4).clamp(Duration::from_millis(250), Duration::from_secs(10))
    }

    /// When expired flows were last removed.
    pub(super) fn swept(&self) -> Instant {
        self.published.figures().taken.unwrap_or(self.since)
    }

    /// What there is, in one line.
    pub(super) fn summary(&self) -> String {
        let config = Arc::clone(&self.state().config);
        let rules = counted(config.rule_count(), "rule");
        let interfaces = counted(config.interfaces.len(), "interface");
        let figures = self.published.figures();
        let flows = figures.census.established.iter();
        let flows: u64 = flows.chain(&figures.census.half_open).sum();
        let flows = counted(usize::try_from(flows).unwrap_or(usize::MAX), "flow");
        format!("{rules} on {interfaces}, {flows}")
    }
}

impl State {
    pub(super) fn apply(&mut self, network: Network) -> anyhow::Result<InForce> {
        self.find_leaving(&network)?;
        let links = start::links(&self.config, &network);
        self.datapath.set_devices(&links)?;
        self.datapath.set_addresses(&network.addresses)?;
        self.forget_addresses(&network)?;
        start::set_source_ports(&mut self.datapath, &self.config.limits)?;
        let own = network.addresses.iter().map(|one| one.address);
        self.datapath
            .set_queries(self.config.original_destination.as_ref(), own)?;
        let index = |name: &str| network.link(name).map(|link| link.index);
        let in_force = self
            .datapath
            .set_rules(RuleSet::from(&*self.config), index)?;
        self.datapath.bump_generation()?;
        fault::at(Step::Rules)?;
        self.network = network;
        self.attach()?;
        Ok(in_force)
    }

    /// A line for every shortage that packets have met since the last look.
    fn tell_shortages(&mut self) -> anyhow::Result<()> {
        let counts = self.datapath.reasons()?;
        for (reason, count) in &counts {
            let before = self.told.iter().find(|(told, _)| told == reason);
            let more = count - before.map_or(0, |(_, count)| *count);
            if more != 0 && reason.is_shortage() {
                warn!(
                    "{more} packets dropped, {}: {}",
                    reason.name(),
                    reason.sentence()
                );
            }
        }
        self.told = counts;
        Ok(())
    }

    fn sweep(&mut self, clock: &Clock, tell: Option<Tell<'_>>) -> anyhow::Result<Swept> {
        fault::at(Step::Sweep)?;
        if let Some(handover) = self.handover.take() {
            handover.finish()?;
        }
        self.end_drained(clock)?;
        let timeouts = &self.config.timeouts;
        let swept = self.datapath.sweep_telling(clock, timeouts, tell)?;
        self.let_go()?;
        if swept.removed != 0 {
            debug!("removed {} expired flows", swept.removed);
        }
        let rules = RuleSet::from(&*self.config);
        self.datapath.free_slots(rules, &swept.rules)?;
        self.tell_shortages()?;
        Ok(swept)
    }
}
