//! Rules that only watch: what they would have made of connections, beside what netfilter has made of them.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use super::{published::Setup, report::protocol, running::Running};
use crate::{
    config::{Config, Mode, Rule, Source},
    datapath::{Clock, Flow, Key, ends},
    network::{Conntrack, Tracked},
    report::{ComparisonReport, DifferenceReport},
};

/// Connections that are asked for in one sweep: each takes a system call or two.
const AT_ONCE: usize = 4096;
/// A packet is met before netfilter has made its entry, so younger flows are asked for the next time.
const YOUNG: Duration = Duration::from_secs(1);

/// Comparisons since the daemon was started.
#[derive(Default)]
pub(super) struct Comparisons {
    by_rule: BTreeMap<u32, Comparison>,
    /// Flows that have been compared, by their tuple and when they were made.
    done: HashSet<(Key, u32)>,
    /// Why nothing can be compared.
    pub(super) unavailable: Option<String>,
}

/// Of one rule's flows.
#[derive(Clone, Debug, Default)]
struct Comparison {
    agreed: u64,
    different: u64,
    untracked: u64,
    last: Option<(Instant, DifferenceReport)>,
}

/// What netfilter has made of a flow.
enum Found {
    Agreed,
    Different(DifferenceReport),
    Untracked,
}

/// Whether anything only watches.
pub(super) fn watches(config: &Config) -> bool {
    config.rules.iter().any(|rule| rule.shadow)
        || config.masquerades.iter().any(|rule| rule.shadow)
        || config.interfaces.iter().any(|one| one.mode == Mode::Shadow)
}

impl Running {
    pub(super) fn comparisons(&self) -> MutexGuard<'_, Comparisons> {
        self.comparisons
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the flows that have come since the last look.
    pub(super) fn compare(&self) -> anyhow::Result<()> {
        let setup = self.published.setup()?;
        let mut comparisons = self.comparisons();
        if !watches(&setup.config) && comparisons.done.is_empty() {
            return Ok(());
        }
        let flows = self.view.now().shadow_flows()?;
        let clock = self.published.figures().now();
        match comparisons.look(&flows, &setup, &clock) {
            Ok(()) => comparisons.unavailable = None,
            Err(error) => {
                let why = format!("conntrack cannot be asked: {error}");
                if comparisons.unavailable.as_ref() != Some(&why) {
                    warn!("what is watched is not compared: {why}");
                }
                comparisons.unavailable = Some(why);
            }
        }
        Ok(())
    }
}

impl Comparisons {
    fn look(&mut self, flows: &[Flow], setup: &Setup, clock: &Clock) -> std::io::Result<()> {
        let id = |flow: &Flow| (flow.original, flow.original_entry.created);
        let there: HashSet<_> = flows.iter().map(id).collect();
        self.done.retain(|one| there.contains(one));
        // An echo has no ports, and conntrack's tuple of it no room for them here.
        let fresh = flows
            .iter()
            .filter(|flow| matches!(flow.original.protocol, 6 | 17));
        let fresh = fresh.filter(|flow| !self.done.contains(&id(flow)));
        let fresh: Vec<&Flow> = fresh.take(AT_ONCE).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let conntrack = Conntrack::open()?;
        for flow in fresh {
            let reply = conntrack.reply(&tracked(&flow.original))?;
            let young = clock.since_created(flow.original_entry.created) < YOUNG;
            if reply.is_none() && young {
                continue;
            }
            self.done.insert(id(flow));
            self.note(flow, setup, judge(flow, reply, setup));
        }
        Ok(())
    }

    fn note(&mut self, flow: &Flow, setup: &Setup, found: Found) {
        let slot = flow.original_entry.rule;
        let comparison = self.by_rule.entry(slot).or_default();
        match found {
            Found::Agreed => comparison.agreed += 1,
            Found::Untracked => comparison.untracked += 1,
            Found::Different(difference) => {
                // One line a rule and look would still be a flood where everything differs.
                if comparison.different == 0 {
                    let name = setup.names.get(&slot).map_or("?", String::as_str);
                    warn!("{name} in shadow: {difference}; the first difference");
                }
                comparison.different += 1;
                comparison.last = Some((Instant::now(), difference));
            }
        }
    }

    /// Of the rule with this slot, if any of its flows have been compared.
    pub(super) fn of(&self, slot: u32) -> Option<ComparisonReport> {
        self.by_rule.get(&slot).map(Comparison::report)
    }

    /// Of all rules.
    pub(super) fn sum(&self) -> ComparisonReport {
        let mut sum = ComparisonReport::default();
        for one in self.by_rule.values() {
            sum.agreed += one.agreed;
            sum.different += one.different;
            sum.untracked += one.untracked;
        }
        sum
    }
}

impl Comparison {
    fn report(&self) -> ComparisonReport {
        ComparisonReport {
            agreed: self.agreed,
            different: self.different,
            untracked: self.untracked,
            last_difference: self.last.as_ref().map(|(at, difference)| DifferenceReport {
                seconds_ago: at.elapsed().as_secs(),
                ..difference.clone()
            }),
        }
    }
}

fn tracked(key: &Key) -> Tracked {
    let (source, destination) = ends(key);
    Tracked {
        protocol: key.protocol,
        source,
        destination,
    }
}

/// Compares to whom, and as whom. Which source port a connection gets is nobody's concern.
fn judge(flow: &Flow, reply: Option<Tracked>, setup: &Setup) -> Found {
    let Some(kernel) = reply else {
        return Found::Untracked;
    };
    let ours = tracked(&flow.reply);
    let name = setup.names.get(&flow.original_entry.rule);
    let rule = name.and_then(|name| setup.config.rules.iter().find(|rule| rule.name == *name));
    let asked = ends(&flow.original).1;
    let backend = ours.source == kernel.source
        || rule.is_some_and(|rule| is_backend(rule, asked, kernel.source));
    let source = rule.map(|rule| rule.source).or_else(|| {
        let mut masquerades = setup.config.masquerades.iter();
        let found = masquerades.find(|rule| Some(&rule.name) == name);
        found.map(|rule| rule.source)
    });
    let (here, there) = (ours.destination.ip(), kernel.destination.ip());
    let from_pool =
        matches!(source, Some(Source::Pool { first, last }) if (first..=last).contains(&there));
    if backend && (here == there || from_pool) {
        return Found::Agreed;
    }
    let (client, _) = ends(&flow.original);
    let outcome = |to: SocketAddr, from: SocketAddr| format!("to {to} as {}", from.ip());
    Found::Different(DifferenceReport {
        protocol: protocol(flow.original.protocol).to_owned(),
        source: client.to_string(),
        destination: asked.to_string(),
        forwarder: outcome(ours.source, ours.destination),
        kernel: outcome(kernel.source, kernel.destination),
        seconds_ago: 0,
    })
}

/// Whether the rule may send what asks for `asked` to `to`: which of its backends, is left to chance.
fn is_backend(rule: &Rule, asked: SocketAddr, to: SocketAddr) -> bool {
    rule.backends().iter().any(|backend| {
        let port = backend.port_for(rule.listen.ports, asked.port());
        backend.address == to.ip() && port == to.port()
    })
}
