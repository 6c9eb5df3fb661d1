//! Which devices are served: those that are configured, and those that are configured no more as long as their flows
//! need them.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Context as _;
use forwarder_common::flow::EMIT;
use tracing::info;

use super::{running::State, start};
use crate::{
    config::Mode,
    datapath::{Attached, Clock, Flow, Link, Occupant, RuleSet, Wanted},
    fault::{self, Step},
    network::{self, Network},
    report::Hook,
};

/// A device that is configured no more.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    /// How it is served.
    pub(super) served: Attached,
    /// From when on.
    pub(super) since: Instant,
}

impl State {
    /// Finds out which devices are to go, and have flows left. The others that are to go are let go by
    /// [`State::attach`].
    pub(super) fn find_leaving(&mut self, network: &Network) -> anyhow::Result<()> {
        let configured = |name: &str| {
            let mut interfaces = self.config.interfaces.iter();
            interfaces.any(|interface| interface.name == name)
        };
        let served = self.datapath.served()?;
        let candidates: Vec<(&Link, Mode)> = network
            .links
            .iter()
            .filter(|link| !configured(&link.name))
            .filter_map(|link| Some((link, *served.get(&link.index)?)))
            .collect();
        let mut leaving = BTreeMap::new();
        if !candidates.is_empty() {
            let (flows, clock) = (self.datapath.flows()?, self.datapath.clock(self.hz)?);
            for (link, mode) in candidates {
                let before = self.leaving.get(&link.name);
                let since = before.map_or_else(Instant::now, |before| before.since);
                if !flows
                    .iter()
                    .any(|flow| self.needs(flow, link, (&clock, since)))
                {
                    continue;
                }
                let attached = self.attached.get(&link.name);
                let served = attached
                    .or(before.map(|before| &before.served))
                    .filter(|served| served.index == link.index);
                let served = served.cloned().unwrap_or_else(|| unknown(link, mode));
                leaving.insert(link.name.clone(), Leaving { served, since });
            }
        }
        self.leaving = leaving;
        let indices = self.leaving.values().map(|one| one.served.index);
        self.datapath.set_leaving(indices);
        Ok(())
    }

    /// Whether packets of `flow` come in by the device of `link`, which is leaving since a time. Of a flow to a port of
    /// this host nobody knows, so the device stays for those that are older, but not for ever.
    fn needs(&self, flow: &Flow, link: &Link, (clock, since): (&Clock, Instant)) -> bool {
        let ways = [flow.original_entry.route, flow.reply_entry.route];
        if flow.original_entry.is_forwarded() {
            return ways.iter().any(|way| way.egress.index() == link.index);
        }
        let left = since.elapsed();
        left < self.config.timeouts.drain
            && clock.since_created(flow.original_entry.created) >= left
    }

    /// Whether what this host itself sends is to be looked at: for a rule, or for flows of rules that are gone.
    fn needs_egress(&self) -> anyhow::Result<bool> {
        if RuleSet::from(&*self.config).needs_egress() {
            return Ok(true);
        }
        if !self.datapath.has_egress()? {
            return Ok(false);
        }
        let emits = |flow: &Flow| flow.original_entry.has(EMIT) || flow.reply_entry.has(EMIT);
        Ok(self.datapath.flows()?.iter().any(emits))
    }

    /// Serves every configured interface that exists, those that are leaving, and no other.
    pub(super) fn attach(&mut self) -> anyhow::Result<()> {
        let egress = self.needs_egress()?;
        let renewed = self.datapath.was_renewed();
        let network = self.network.clone();
        let mut wanted: Vec<(String, Mode)> = Vec::new();
        for interface in &self.config.interfaces {
            wanted.push((interface.name.clone(), interface.mode));
        }
        for (name, leaving) in &self.leaving {
            wanted.push((name.clone(), leaving.served.mode));
        }
        let mut attached = BTreeMap::new();
        let mut links = Vec::new();
        for (name, mode) in wanted {
            let Some(link) = network.link(&name) else {
                continue;
            };
            let before = self.attached.get(&name);
            let before = before.or(self.leaving.get(&name).map(|one| &one.served));
            let served = match before {
                Some(before)
                    if !renewed
                        && before.index == link.index
                        && before.mode == mode
                        && before.egress == egress
                        && before.hook != Hook::Absent =>
                {
                    before.clone()
                }
                _ => {
                    let served = self.serve(link, mode, egress)?;
                    fault::at(Step::Attach)?;
                    served
                }
            };
            links.push(link.clone());
            attached.insert(name, served);
        }
        self.tell_gone(&attached);
        for (name, leaving) in &mut self.leaving {
            leaving.served.clone_from(&attached[name]);
        }
        attached.retain(|name, _| !self.leaving.contains_key(name));
        self.attached = attached;
        self.datapath.set_vlans(&links)?;
        let indices: Vec<u32> = links.iter().map(|link| link.index).collect();
        self.datapath.detach_others(&indices)
    }

    fn tell_gone(&self, attached: &BTreeMap<String, Attached>) {
        for name in self.attached.keys() {
            if self.leaving.contains_key(name) {
                info!("{name}: leaves when its flows have ended");
            } else if !attached.contains_key(name) {
                info!("{name}: gone");
            }
        }
    }

    fn serve(&mut self, link: &Link, mode: Mode, egress: bool) -> anyhow::Result<Attached> {
        let native =
            network::driver(&link.name).is_some_and(|driver| network::has_native_xdp(&driver));
        let on_xdp = match mode {
            Mode::Tc | Mode::Shadow => false,
            Mode::Auto => native,
            Mode::Xdp | Mode::XdpGeneric => true,
        };
        let occupant = if on_xdp { self.occupant(link)? } else { None };
        let wanted = Wanted {
            mode,
            native,
            egress,
            occupant,
        };
        let served = self.datapath.attach(link, wanted)?;
        info!("{}: {} ({})", link.name, served.hook.as_str(), served.why);
        Ok(served)
    }

    /// Another's XDP program on `link`. It is taken off if that was asked for, and then there is none.
    fn occupant(&self, link: &Link) -> anyhow::Result<Option<Occupant>> {
        let name = &link.name;
        let found = network::xdp_on(link.index)
            .with_context(|| format!("cannot tell which XDP program is on {name}"))?;
        let Some(occupant) = found.and_then(|(id, generic)| Occupant::of(id, generic)) else {
            return Ok(None);
        };
        if !self.replace {
            return Ok(Some(occupant));
        }
        let gone = match occupant.detach_link() {
            Ok(false) => network::take_xdp_off(link.index, occupant.generic),
            done => done.map(drop),
        };
        gone.with_context(|| {
            let off = occupant.off(name);
            format!("cannot replace the XDP program on {name}: {occupant}; try `{off}`")
        })?;
        info!("{name}: took another XDP program off: {occupant}");
        Ok(None)
    }

    /// Looks whether devices that are leaving are still needed, and programs for flows that are not there any more.
    pub(super) fn let_go(&mut self) -> anyhow::Result<()> {
        let spare_egress = !RuleSet::from(&*self.config).needs_egress()
            && self.attached.values().any(|served| served.egress);
        if self.leaving.is_empty() && !spare_egress {
            return Ok(());
        }
        let before: Vec<_> = self.leaving.keys().cloned().collect();
        self.find_leaving(&self.network.clone())?;
        if spare_egress || !before.iter().eq(self.leaving.keys()) {
            let links = start::links(&self.config, &self.network);
            self.datapath.set_devices(&links)?;
            self.attach()?;
            for name in before
                .iter()
                .filter(|name| !self.leaving.contains_key(*name))
            {
                info!("{name}: gone");
            }
        }
        Ok(())
    }
}

/// A device that an earlier daemon has served.
fn unknown(link: &Link, mode: Mode) -> Attached {
    Attached {
        index: link.index,
        mode,
        hook: Hook::Absent,
        why: String::new(),
        egress: false,
    }
}
