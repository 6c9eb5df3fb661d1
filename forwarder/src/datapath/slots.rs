//! Rules by slot: their names, which a restarted daemon finds again, and what becomes of their flows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use aya::maps::MapError;
use forwarder_common::{
    change::{self, DRAIN, KEEP, KILL, USUAL},
    rule::NAME_LENGTH,
    stats::RuleTraffic,
};

use super::{Datapath, RuleSet, compile::AnyRule};
use crate::config::OnChange;

impl Datapath {
    /// Every slot with its rule's name.
    pub fn rule_names(&self) -> BTreeMap<u32, String> {
        self.names
            .iter()
            .map(|(name, slot)| (*slot, name.clone()))
            .collect()
    }

    /// Frees the slots of rules that are neither in `rules` nor named by a flow.
    ///
    /// # Errors
    /// The kernel refuses to write a map.
    pub fn free_slots(&mut self, rules: RuleSet<'_>, used: &BTreeSet<u32>) -> anyhow::Result<()> {
        let free: Vec<_> = self
            .names
            .iter()
            .filter(|(name, slot)| {
                !used.contains(slot) && !rules.iter().any(|rule| rule.name() == **name)
            })
            .map(|(name, slot)| (name.clone(), *slot))
            .collect();
        for (name, slot) in free {
            self.tables.rule_names.remove(&slot)?;
            // Absent in what an older daemon has left.
            let _absent = self.tables.rule_on_change.remove(&slot);
            self.names.remove(&name);
        }
        Ok(())
    }

    /// The slot of `rule`, the next of the `free` ones if it has none.
    pub(super) fn slot(
        &mut self,
        rule: AnyRule<'_>,
        free: &mut impl Iterator<Item = u32>,
    ) -> anyhow::Result<u32> {
        let name = rule.name();
        if let Some(slot) = self.names.get(name).copied() {
            self.remember_on_change(slot, rule.on_change())?;
            return Ok(slot);
        }
        let slot = free
            .next()
            .context("no room for another rule until old flows end; raise `limits.rules`")?;
        self.zero_counters(slot)?;
        self.remember_on_change(slot, rule.on_change())?;
        let mut bytes = [0; NAME_LENGTH];
        for (byte, from) in bytes.iter_mut().zip(name.bytes()) {
            *byte = from;
        }
        self.tables.rule_names.insert(slot, bytes, 0)?;
        self.names.insert(name.to_owned(), slot);
        Ok(slot)
    }

    fn zero_counters(&mut self, slot: u32) -> anyhow::Result<()> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let traffic = vec![RuleTraffic::default(); cpus];
        self.tables.rule_traffic.set(slot, traffic.try_into()?, 0)?;
        self.tables
            .rule_opened
            .set(slot, vec![0; cpus].try_into()?, 0)?;
        self.forget_shadow(slot)
    }

    /// What the last file that had the rule of `slot` said of its flows.
    pub(super) fn on_change(&self, slot: u32) -> anyhow::Result<Option<OnChange>> {
        match self.tables.rule_on_change.get(&slot, 0) {
            Ok(KEEP) => Ok(Some(OnChange::Keep)),
            Ok(DRAIN) => Ok(Some(OnChange::Drain)),
            Ok(KILL) => Ok(Some(OnChange::Kill)),
            Ok(_) | Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn remember_on_change(&mut self, slot: u32, said: Option<OnChange>) -> anyhow::Result<()> {
        if self.on_change(slot)? == said {
            return Ok(());
        }
        let code: change::OnChange = match said {
            None => USUAL,
            Some(OnChange::Keep) => KEEP,
            Some(OnChange::Drain) => DRAIN,
            Some(OnChange::Kill) => KILL,
        };
        Ok(self.tables.rule_on_change.insert(slot, code, 0)?)
    }
}
