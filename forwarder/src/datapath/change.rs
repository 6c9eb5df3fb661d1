//! What becomes of flows when rules change.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use aya::{maps::MapError, sys::SyscallError};
use forwarder_common::{
    change::Drained,
    flow::{ENDED, FlowKey},
    mapping::MappingKey,
};

use super::{
    Clock, Datapath, Flow, InForce, Key, RuleSet, family::Family, flows::IF_PRESENT,
    judge::Surroundings, tables::FamilyTables,
};
use crate::config::OnChange;

/// How many flows the rules in force would not make as they are, and what became of them.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// They live to their end.
    pub kept: usize,
    /// They live to their end or to a limit.
    pub draining: usize,
    /// They are to end now.
    pub killed: Vec<Flow>,
}

impl Datapath {
    /// Looks at every flow under the rules now `in_force`, which are `rules`, and says of each that they would not make
    /// just as it is what becomes of it. What is to end is for the caller to end, see [`Datapath::end_flows`].
    ///
    /// A restarted daemon does the same with what its predecessor has left. So neither needs to know which rules there
    /// were before.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn change_flows(
        &mut self,
        (rules, in_force): (RuleSet<'_>, &InForce),
        around: &Surroundings<'_>,
        clock: &Clock,
    ) -> anyhow::Result<Changed> {
        self.tables.v4.close_mappings(in_force)?;
        self.tables.v6.close_mappings(in_force)?;
        let policy = self.policy(rules)?;
        let mut changed = Changed::default();
        let draining = self.draining()?;
        for flow in self.flows()? {
            // A flow that is only watched is netfilter's.
            if flow.original_entry.has(ENDED) || flow.is_shadow() {
                continue;
            }
            let leaving = around.uses_leaving(&flow);
            let made = in_force.makes(&flow, around);
            let fate = policy.fate(flow.original_entry.rule, made, leaving);
            let drains = fate == Some(OnChange::Drain);
            let fate = match (drains, draining.contains(&flow.original)) {
                (true, _) if !self.drain(&flow, clock)? => Some(OnChange::Keep),
                (false, true) => {
                    self.drain_no_more(&flow);
                    fate
                }
                _ => fate,
            };
            match fate {
                None => {}
                Some(OnChange::Keep) => changed.kept += 1,
                Some(OnChange::Drain) => changed.draining += 1,
                Some(OnChange::Kill) => changed.killed.push(flow),
            }
        }
        Ok(changed)
    }

    fn policy(&self, rules: RuleSet<'_>) -> anyhow::Result<Policy> {
        let there: BTreeMap<&str, Option<OnChange>> = rules
            .iter()
            .map(|rule| (rule.name(), rule.on_change()))
            .collect();
        let mut policy = Policy::default();
        for (name, slot) in &self.names {
            match there.get(name.as_str()) {
                Some(said) => policy.there.insert(*slot, *said),
                None => policy.gone.insert(*slot, self.on_change(*slot)?),
            };
        }
        Ok(policy)
    }

    /// Begins a flow's last time, unless it has begun. False if too many flows have.
    fn drain(&mut self, flow: &Flow, clock: &Clock) -> anyhow::Result<bool> {
        let drained = Drained {
            since: clock.now,
            created: flow.original_entry.created,
            padding: 0,
        };
        Ok(self.tables.v4.drain(flow, drained)? && self.tables.v6.drain(flow, drained)?)
    }

    fn drain_no_more(&mut self, flow: &Flow) {
        self.tables.v4.drain_no_more(flow);
        self.tables.v6.drain_no_more(flow);
    }

    /// Flows that have been draining for longer than `limit`. They are then forgotten as such, as are those that have
    /// ended by themselves.
    ///
    /// # Errors
    /// The kernel refuses to read or write a map.
    pub fn drained(&mut self, clock: &Clock, limit: Duration) -> anyhow::Result<Vec<Flow>> {
        let is_over = |drained: &Drained| clock.since_start(drained.since) > limit;
        let mut over = self.tables.v4.drained(is_over)?;
        over.extend(self.tables.v6.drained(is_over)?);
        Ok(over)
    }

    /// The flows that are draining, by the tuple of their original direction.
    ///
    /// # Errors
    /// The kernel refuses to read a map.
    pub fn draining(&self) -> anyhow::Result<HashSet<Key>> {
        let mut keys = HashSet::new();
        self.tables.v4.draining(&mut keys)?;
        self.tables.v6.draining(&mut keys)?;
        Ok(keys)
    }
}

/// What files have said, by slot.
#[derive(Default)]
struct Policy {
    /// The new file, of its rules.
    there: BTreeMap<u32, Option<OnChange>>,
    /// An older one, of rules that are gone.
    gone: BTreeMap<u32, Option<OnChange>>,
}

impl Policy {
    /// What becomes of a flow of `slot`; `None` if nothing has changed for it. `made`: the rules would make it.
    /// `leaving`: the device it comes in by is going.
    fn fate(&self, slot: u32, made: bool, leaving: bool) -> Option<OnChange> {
        let changed = match (self.there.get(&slot), made) {
            (_, true) => None,
            (Some(said), false) => Some(said.unwrap_or(OnChange::Keep)),
            (None, false) => {
                let said = self.gone.get(&slot).copied().flatten();
                Some(said.unwrap_or(OnChange::Drain))
            }
        };
        let removed = leaving.then(|| {
            let said = self.there.get(&slot).or_else(|| self.gone.get(&slot));
            said.copied().flatten().unwrap_or(OnChange::Drain)
        });
        // The sterner of both.
        changed.into_iter().chain(removed).max()
    }
}

impl<A: Family> FamilyTables<A> {
    fn drain(&mut self, flow: &Flow, drained: Drained) -> anyhow::Result<bool> {
        let Some(key) = A::of_key(&flow.original) else {
            return Ok(true);
        };
        if let Ok(before) = self.draining.get(&key, 0)
            && before.created == drained.created
        {
            return Ok(true);
        }
        match self.draining.insert(key, drained, 0) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error)) if is_full(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn drain_no_more(&mut self, flow: &Flow) {
        if let Some(key) = A::of_key(&flow.original) {
            let _absent = self.draining.remove(&key);
        }
    }

    fn drained(&mut self, is_over: impl Fn(&Drained) -> bool) -> anyhow::Result<Vec<Flow>> {
        let mut over = Vec::new();
        let mut done = Vec::new();
        for record in self.draining.iter() {
            let (key, drained) = record?;
            let flow = self.flow(&key)?;
            let flow = flow.filter(|flow| {
                let entry = &flow.original_entry;
                entry.created == drained.created && !entry.has(ENDED)
            });
            if flow.is_none() || is_over(&drained) {
                done.push(key);
                over.extend(flow);
            }
        }
        for key in done {
            self.draining.remove(&key)?;
        }
        Ok(over)
    }

    fn draining(&self, keys: &mut HashSet<Key>) -> anyhow::Result<()> {
        for key in self.draining.keys() {
            keys.insert(A::key(&key?));
        }
        Ok(())
    }

    /// Nobody but whom the client has sent to gets in any more by mappings of rules that do not let strangers in, or
    /// are gone.
    fn close_mappings(&mut self, in_force: &InForce) -> anyhow::Result<()> {
        let mut open = Vec::new();
        self.mappings.for_each(|key: &MappingKey<A>, mapping| {
            if mapping.unfiltered != 0 && !in_force.is_unfiltered(mapping.rule) {
                open.push((*key, *mapping));
            }
        })?;
        for (key, mut mapping) in open {
            mapping.unfiltered = 0;
            // It may have gone since it was read.
            let _gone = self.mapping.insert(key, mapping, IF_PRESENT);
        }
        Ok(())
    }

    /// The flow whose original direction has this tuple.
    fn flow(&self, key: &FlowKey<A>) -> anyhow::Result<Option<Flow>> {
        let Some(entry) = self.flows.read(key)? else {
            return Ok(None);
        };
        let other = entry.other_key(key.protocol);
        let reply = self.flows.read(&other)?;
        Ok(reply.map(|reply| Flow {
            original: A::key(key),
            original_entry: A::entry(&entry),
            reply: A::key(&other),
            reply_entry: A::entry(&reply),
        }))
    }
}

/// What inserting into a full table gives (kernel/bpf/hashtab.c).
fn is_full(error: &SyscallError) -> bool {
    error.io_error.raw_os_error() == Some(libc::E2BIG)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const THERE: u32 = 1;
    const GONE: u32 = 2;

    #[rstest]
    #[case::nothing_changed(THERE, true, false, None, None)]
    #[case::another_rule_makes_it(GONE, true, false, None, None)]
    #[case::changed(THERE, false, false, None, Some(OnChange::Keep))]
    #[case::gone(GONE, false, false, None, Some(OnChange::Drain))]
    #[case::device_gone(THERE, true, true, None, Some(OnChange::Drain))]
    #[case::device_and_rule_gone(GONE, true, true, None, Some(OnChange::Drain))]
    #[case::changed_as_said(THERE, false, false, Some(OnChange::Kill), Some(OnChange::Kill))]
    #[case::gone_as_said(GONE, false, false, Some(OnChange::Keep), Some(OnChange::Keep))]
    #[case::device_gone_as_said(THERE, true, true, Some(OnChange::Keep), Some(OnChange::Keep))]
    #[case::unchanged_whatever_said(THERE, true, false, Some(OnChange::Kill), None)]
    fn fates(
        #[case] slot: u32,
        #[case] made: bool,
        #[case] leaving: bool,
        #[case] said: Option<OnChange>,
        #[case] expected: Option<OnChange>,
    ) {
        let policy = Policy {
            there: BTreeMap::from([(THERE, said)]),
            gone: BTreeMap::from([(GONE, said)]),
        };
        assert_eq!(policy.fate(slot, made, leaving), expected);
    }

    #[test]
    fn the_sterner_of_two_changes_counts() {
        let policy = Policy {
            there: BTreeMap::from([(THERE, None)]),
            gone: BTreeMap::new(),
        };
        assert_eq!(policy.fate(THERE, false, true), Some(OnChange::Drain));
    }
}
