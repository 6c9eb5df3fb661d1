//! Removing flows and mappings whose time is up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use forwarder_common::{
    flow::{ENDED, FlowEntry, FlowKey},
    mapping::{INSIDE, MappingKey, OUTSIDE},
    tcp::Seen,
};

use super::{
    Clock, Datapath, Flow,
    cache::Pending,
    census::{Census, Half, Tally},
    compile::{TCP, UDP},
    family::Family,
    flows::is_half_open,
    half_open::HalfOpenFlows,
    tables::{FamilyTables, FlowTable},
};
use crate::config::Timeouts;

/// Hears of flows that are removed.
pub type Tell<'a> = &'a mut dyn FnMut(Flow);

/// What one sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The flows that stay.
    pub census: Census,
    /// Flows removed.
    pub removed: u64,
    /// Slots of the rules that flows named, those just removed included: a slot is free a sweep later.
    pub rules: BTreeSet<u32>,
}

impl Datapath {
    /// Removes flows that have been idle for longer than `timeouts` allow, halves without their other half,
    /// and mappings without a flow.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn sweep(&mut self, clock: &Clock, timeouts: &Timeouts) -> anyhow::Result<Swept> {
        self.sweep_telling(clock, timeouts, None)
    }

    /// As [`Datapath::sweep`]; `tell` is called for every flow that is about to be removed.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn sweep_telling(
        &mut self,
        clock: &Clock,
        timeouts: &Timeouts,
        mut tell: Option<Tell<'_>>,
    ) -> anyhow::Result<Swept> {
        let mut swept = Swept::default();
        let sweeper = Sweeper {
            half_open: &self.tables.half_open,
            clock,
            timeouts,
            pooled: &self.pooled,
        };
        sweeper.family(&self.tables.v4, &mut swept, &mut tell)?;
        sweeper.family(&self.tables.v6, &mut swept, &mut tell)?;
        if swept.removed > 0 {
            self.tables.forget_cached()?;
        }
        Ok(swept)
    }
}

struct Sweeper<'a> {
    half_open: &'a HalfOpenFlows,
    clock: &'a Clock,
    timeouts: &'a Timeouts,
    /// Slots of the rules whose source ports are counted.
    pooled: &'a BTreeSet<u32>,
}

impl Sweeper<'_> {
    /// Sweeps the tables of one family.
    fn family<A: Family>(
        &self,
        tables: &FamilyTables<A>,
        swept: &mut Swept,
        tell: &mut Option<Tell<'_>>,
    ) -> anyhow::Result<()> {
        let mut found = Found {
            mapped: None,
            tally: Tally::new(self.pooled),
            tell: tell.as_mut().map(|tell| &mut **tell as Tell<'_>),
        };
        // Without one that is idle now there is none to remove afterwards, and no need to know the sockets of all flows.
        if !self
            .idle_mappings(tables, Some(&mut found.tally))?
            .is_empty()
        {
            found.mapped = Some(HashSet::new());
        }
        self.flows(tables, &mut found, swept)?;
        if let Some(mapped) = found.mapped {
            let mut idle = self.idle_mappings(tables, None)?;
            idle.retain(|key| !mapped.contains(key));
            tables.mappings.delete(&idle)?;
        }
        found.tally.finish(&mut swept.census);
        Ok(())
    }

    /// Sweeps the flow table.
    fn flows<A: Family>(
        &self,
        tables: &FamilyTables<A>,
        found: &mut Found<'_, A>,
        swept: &mut Swept,
    ) -> anyhow::Result<()> {
        let mut stay = Stay::default();
        let mut suspects = HashMap::new();
        let mut suspect_half_open = 0;
        let before = self.half_open.read::<A>();
        tables.flows.all.for_each(|key, entry| {
            swept.rules.insert(entry.rule);
            if let Some(mapped) = &mut found.mapped
                && key.protocol == UDP
                && entry.is_original()
            {
                mapped.extend(sockets(key, entry));
            }
            if self.clock.since(entry.last_seen) > self.shortest(key, entry) {
                suspect_half_open += u64::from(is_half_open(key, entry));
                suspects.insert(*key, Suspect::of(key, entry));
            } else {
                found.tally.count(&Half::of(key, entry));
                stay.count(key, entry);
            }
        })?;
        self.half_open
            .correct::<A>(before, stay.half_open + suspect_half_open);
        let expired = self.expired(tables, &suspects)?;
        for (key, suspect) in &suspects {
            if !expired.contains(key) {
                found.tally.count(&suspect.half(key));
                stay.count(key, &suspect.entry());
            } else if is_half_open(key, &suspect.entry()) {
                self.half_open.end::<A>(1);
            }
        }
        if let Some(tell) = &mut found.tell
            && !expired.is_empty()
        {
            tables.each_of(&expired, *tell)?;
        }
        let expired: Vec<_> = expired.into_iter().collect();
        tables.flows.all.delete(&expired)?;
        tables.empty_places(&expired)?;
        swept.removed += (expired.len() as u64).div_ceil(2);
        let family = usize::from(A::IPV6);
        swept.census.established[family] = stay.established;
        swept.census.half_open[family] = stay.half_open;
        Ok(())
    }

    /// The tuples among `suspects` whose flows' time is up, and those of their other directions.
    fn expired<A: Family>(
        &self,
        tables: &FamilyTables<A>,
        suspects: &HashMap<FlowKey<A>, Suspect<A>>,
    ) -> anyhow::Result<HashSet<FlowKey<A>>> {
        let mut expired = HashSet::new();
        if suspects.is_empty() {
            return Ok(expired);
        }
        let pending = tables.pending()?;
        for (key, suspect) in suspects {
            // Most flows that are quiet are so for good, and need no second look.
            if let Some(other) = suspects.get(&suspect.other)
                && !self.is_over(key, suspect.entry(), other.entry())
            {
                continue;
            }
            if !expired.contains(key)
                // Read again, so that a packet that came since the walk saves its flow.
                && let Some(other) = self.judge(&tables.flows, &pending, key)?
            {
                expired.extend([*key, other]);
            }
        }
        Ok(expired)
    }

    /// Mappings that no flow has just been made with; `tally` counts all.
    fn idle_mappings<A: Family>(
        &self,
        tables: &FamilyTables<A>,
        mut tally: Option<&mut Tally<'_, A>>,
    ) -> anyhow::Result<Vec<MappingKey<A>>> {
        let mut idle = Vec::new();
        tables.mappings.for_each(|key, mapping| {
            if let Some(tally) = &mut tally {
                tally.count_mapping(key, mapping);
            }
            if self.clock.since(mapping.last_used) > self.timeouts.udp {
                idle.push(*key);
            }
        })?;
        Ok(idle)
    }

    /// The shortest timeout that this direction could be under, whatever the other one has seen.
    fn shortest<A: Family>(&self, key: &FlowKey<A>, entry: &FlowEntry<A>) -> Duration {
        let timeouts = self.timeouts;
        match key.protocol {
            protocol if protocol != TCP && entry.has(ENDED) => Duration::ZERO,
            TCP if entry.is_original() && !entry.seen.has(Seen::CONFIRMED) => {
                timeouts.tcp_half_open.min(timeouts.tcp_transitory)
            }
            TCP => timeouts
                .tcp_transitory
                .min(timeouts.tcp_half_open)
                .min(timeouts.tcp_established),
            UDP => timeouts.udp.min(timeouts.udp_stream),
            _ => timeouts.icmp,
        }
    }

    /// If the time of the flow of `key` is up, the tuple of its other direction.
    fn judge<A: Family>(
        &self,
        table: &FlowTable<A>,
        pending: &Pending<A>,
        key: &FlowKey<A>,
    ) -> anyhow::Result<Option<FlowKey<A>>> {
        let Some(entry) = table.read(key)? else {
            return Ok(None);
        };
        let entry = pending.settled(key, entry);
        let other_key = entry.other_key(key.protocol);
        let Some(other) = table.read(&other_key)? else {
            // Half a flow: its other half was removed, or is being made this moment.
            return Ok(Some(other_key));
        };
        let other = pending.settled(&other_key, other);
        Ok(self.is_over(key, entry, other).then_some(other_key))
    }

    /// Whether the time of a flow with these entries is up; `key` is that of the first.
    fn is_over<A: Family>(
        &self,
        key: &FlowKey<A>,
        entry: FlowEntry<A>,
        other: FlowEntry<A>,
    ) -> bool {
        let (original, reply) = if entry.is_original() {
            (entry, other)
        } else {
            (other, entry)
        };
        let flow = Flow {
            // Of the tuples only the protocol matters here.
            original: A::key(key),
            original_entry: A::entry(&original),
            reply: A::key(key),
            reply_entry: A::entry(&reply),
        };
        flow.idle(self.clock) > flow.timeout(self.timeouts)
    }
}

/// What must be known of an entry to tell whether its flow's time is up: there may be millions.
struct Suspect<A> {
    /// The other direction.
    other: FlowKey<A>,
    last_seen: u32,
    rule: u32,
    seen: Seen,
    flags: u8,
}

impl<A: Family> Suspect<A> {
    fn of(key: &FlowKey<A>, entry: &FlowEntry<A>) -> Self {
        Self {
            other: entry.other_key(key.protocol),
            last_seen: entry.last_seen,
            rule: entry.rule,
            seen: entry.seen,
            flags: entry.flags,
        }
    }

    /// The direction whose tuple is `key`, to be counted.
    fn half(&self, key: &FlowKey<A>) -> Half<A> {
        Half {
            key: *key,
            other: self.other,
            rule: self.rule,
            seen: self.seen,
            is_original: self.entry().is_original(),
        }
    }

    /// An entry that says the same.
    fn entry(&self) -> FlowEntry<A> {
        FlowEntry {
            last_seen: self.last_seen,
            seen: self.seen,
            flags: self.flags,
            ..FlowEntry::default()
        }
    }
}

/// How many flows stay.
#[derive(Default)]
struct Stay {
    established: u64,
    half_open: u64,
}

impl Stay {
    fn count<A: Family>(&mut self, key: &FlowKey<A>, entry: &FlowEntry<A>) {
        if is_half_open(key, entry) {
            self.half_open += 1;
        } else if entry.is_original() {
            self.established += 1;
        }
    }
}

/// What is seen on the way through one family's tables.
struct Found<'a, A> {
    /// UDP sockets that flows have, on either side; `None` if nobody asks.
    mapped: Option<HashSet<MappingKey<A>>>,
    tally: Tally<'a, A>,
    tell: Option<Tell<'a>>,
}

/// Both sides of the mapping that a UDP flow may have been made with.
fn sockets<A: Family>(key: &FlowKey<A>, entry: &FlowEntry<A>) -> [MappingKey<A>; 2] {
    [
        MappingKey {
            address: key.source,
            port_be: key.source_port_be,
            protocol: key.protocol,
            side: INSIDE,
        },
        MappingKey {
            address: entry.rewrite.source,
            port_be: entry.rewrite.source_port_be,
            protocol: key.protocol,
            side: OUTSIDE,
        },
    ]
}
