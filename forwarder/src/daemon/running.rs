//! The running daemon: its configuration, its datapath, and what it knows of the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, anyhow};
use forwarder_common::reason::Reason;
use rtnetlink::Handle;
use tokio::io::{Interest, unix::AsyncFd};
use tracing::{debug, info, warn};

use super::{
    RunOptions,
    compare::Comparisons,
    metrics::{Endpoint, Exporter},
    published::Published,
    rates::Rates,
    start,
};
use crate::{
    config::{self, Config, Mode, Source},
    datapath::{Attached, Clock, Datapath, Link, RuleSet, Swept, View, Wanted, Words},
    network::{self, Change, Network},
    report::{Hook, counted},
};

/// Shared between the watching loop and the control socket.
pub(super) struct Running {
    state: Mutex<State>,
    pub(super) options: RunOptions,
    pub(super) since: Instant,
    /// Jiffies in a second.
    pub(super) hz: u64,
    /// Flows and counters, for whoever only reads.
    pub(super) view: Arc<View>,
    pub(super) published: Arc<Published>,
    pub(super) metrics: Endpoint,
    /// Of reasons.
    pub(super) rates: Mutex<Rates>,
    /// What is watched, beside what netfilter does.
    pub(super) comparisons: Mutex<Comparisons>,
}

/// What changes while the daemon runs.
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) datapath: Datapath,
    pub(super) network: Network,
    /// By interface name.
    pub(super) attached: BTreeMap<String, Attached>,
    /// Whether somebody captures packets.
    pub(super) capturing: bool,
    /// The counters of reasons at the last look for shortages.
    told: Vec<(Reason, u64)>,
}

impl Running {
    pub(super) fn new(
        config: Config,
        options: RunOptions,
        datapath: Datapath,
        clock: Clock,
    ) -> Self {
        // What an earlier daemon has counted, it has told.
        let told = datapath.reasons().unwrap_or_default();
        let published = Arc::new(Published::new(clock));
        Self {
            metrics: Endpoint::new(Exporter {
                view: datapath.view(),
                published: Arc::clone(&published),
                started: SystemTime::now(),
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
                capturing: false,
                told,
            }),
            options,
            since: Instant::now(),
            hz: clock.hz,
        }
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
        let swept = state.sweep(&clock)?;
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
            .min(timeouts.icmp);
        (shortest / 4).clamp(Duration::from_millis(250), Duration::from_secs(10))
    }

    /// Reads the configuration again; a bad one changes nothing.
    pub(super) fn reload_file(&self) -> anyhow::Result<String> {
        let Some(path) = &self.options.config_path else {
            anyhow::bail!(
                "nothing to reload: this forwarder was started with flags, not with a file"
            );
        };
        let config = config::load(path)?;
        let mut state = self.state();
        start::check_interfaces(&config, &state.network)?;
        anyhow::ensure!(
            start::sizes(&config.limits) == start::sizes(&state.config.limits),
            "`flows`, `half-open` and `rules` of `limits` cannot change while running: stop the daemon, `forwarder detach`, and start it again"
        );
        anyhow::ensure!(
            config.control == state.config.control && config.log == state.config.log,
            "`control` and `log` cannot change while running: restart the daemon, traffic goes on meanwhile"
        );
        self.metrics.change(config.metrics)?;
        let before = std::mem::replace(&mut state.config, Arc::new(config));
        let network = state.network.clone();
        if let Err(error) = state.apply(network.clone()) {
            self.metrics.change(before.metrics)?;
            state.config = before;
            state.apply(network)?;
            return Err(error);
        }
        self.published.publish_setup(state.setup()?);
        Ok(format!(
            "reloaded {}: {} on {}",
            path.display(),
            counted(state.config.rule_count(), "rule"),
            counted(state.config.interfaces.len(), "interface")
        ))
    }
}

impl State {
    fn apply(&mut self, network: Network) -> anyhow::Result<()> {
        let links = start::links(&self.config, &network);
        self.datapath.set_devices(&links)?;
        self.datapath.set_addresses(&network.addresses)?;
        self.forget_addresses(&network)?;
        start::set_source_ports(&mut self.datapath, &self.config.limits)?;
        let index = |name: &str| network.link(name).map(|link| link.index);
        self.datapath
            .set_rules(RuleSet::from(&*self.config), index)?;
        self.datapath.bump_generation()?;
        self.network = network;
        self.attach()
    }

    /// Ends the flows that masquerade as an address this host no longer has: nothing comes back to them.
    /// Whoever still sends on one gets a RST, and a client that tries again the new address.
    fn forget_addresses(&mut self, network: &Network) -> anyhow::Result<()> {
        let has = |address| network.addresses.iter().any(|one| one.address == address);
        let before = self.network.addresses.iter().map(|one| one.address);
        let gone: BTreeSet<IpAddr> = before.filter(|address| !has(*address)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let forwards = self.config.rules.iter();
        let forwards = forwards.map(|rule| (rule.source, &rule.name));
        let outbound = self.config.masquerades.iter();
        let outbound = outbound.map(|rule| (rule.source, &rule.name));
        let masquerading: BTreeSet<&str> = forwards
            .chain(outbound)
            .filter(|(source, _)| *source == Source::Masquerade)
            .map(|(_, name)| name.as_str())
            .collect();
        let names = self.datapath.rule_names();
        let ended = self.datapath.end_flows(|flow| {
            let name = names.get(&flow.original_entry.rule);
            name.is_some_and(|name| masquerading.contains(name.as_str()))
                && gone.contains(&flow.original_entry.rewrite.source)
        })?;
        info!("own addresses are gone: {ended} flows that masqueraded as them have ended");
        Ok(())
    }

    /// Serves every configured interface that exists, and no other.
    fn attach(&mut self) -> anyhow::Result<()> {
        let mut attached = BTreeMap::new();
        let mut indices = Vec::new();
        let mut served_vlans = Vec::new();
        let egress = RuleSet::from(&*self.config).needs_egress();
        let (network, interfaces) = (self.network.clone(), self.config.interfaces.clone());
        for interface in &interfaces {
            let Some(link) = network.link(&interface.name) else {
                continue;
            };
            indices.push(link.index);
            let served = match self.attached.get(&interface.name) {
                Some(before)
                    if before.index == link.index
                        && before.mode == interface.mode
                        && before.egress == egress =>
                {
                    before.clone()
                }
                _ => self.serve(link, interface.mode, egress)?,
            };
            served_vlans.push(link.clone());
            attached.insert(interface.name.clone(), served);
        }
        for (name, before) in &self.attached {
            if before.hook != Hook::Absent && !attached.contains_key(name) {
                info!("{name}: gone");
            }
        }
        self.attached = attached;
        self.datapath.set_vlans(&served_vlans)?;
        self.datapath.detach_others(&indices)
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

    fn serve(&mut self, link: &Link, mode: Mode, egress: bool) -> anyhow::Result<Attached> {
        let native =
            network::driver(&link.name).is_some_and(|driver| network::has_native_xdp(&driver));
        let wanted = Wanted {
            mode,
            native,
            egress,
        };
        let served = self.datapath.attach(link, wanted)?;
        info!("{}: {} ({})", link.name, served.hook.as_str(), served.why);
        Ok(served)
    }

    fn sweep(&mut self, clock: &Clock) -> anyhow::Result<Swept> {
        let swept = self.datapath.sweep(clock, &self.config.timeouts)?;
        if swept.removed != 0 {
            debug!("removed {} expired flows", swept.removed);
        }
        let rules = RuleSet::from(&*self.config);
        self.datapath.free_slots(rules, &swept.rules)?;
        self.tell_shortages()?;
        Ok(swept)
    }
}
