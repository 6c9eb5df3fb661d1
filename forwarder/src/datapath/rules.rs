//! Bringing the rule tables to what the configuration says, while packets pass.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use aya::maps::lpm_trie::Key;
use forwarder_common::{
    address::V4,
    rule::{ClientKey, NAME_LENGTH, Shape, ShapeRange},
    stats::RuleTraffic,
};

use super::{
    Datapath,
    compile::{self, ClientId, Contents, ListenerId, Placed},
};
use crate::config::Rule;

impl Datapath {
    /// Makes `rules` the rules in force. `interface` gives a device's index; a rule whose device is absent
    /// waits for the next call.
    ///
    /// Only differences are written, and in an order in which every look-up finds either the old rule or
    /// the new one: backends into the unused half of their table, listeners, then what is no longer there.
    ///
    /// # Errors
    /// The rules do not fit, or the kernel refuses to write a map.
    pub fn set_rules(
        &mut self,
        rules: &[Rule],
        interface: impl Fn(&str) -> Option<u32>,
    ) -> anyhow::Result<()> {
        let mut placed = Vec::new();
        let taken: BTreeSet<u32> = self.names.values().copied().collect();
        let mut free = (0..self.sizes.rules).filter(move |slot| !taken.contains(slot));
        for rule in rules {
            let slot = self.slot(&rule.name, &mut free)?;
            let index = rule.interface.as_deref().map_or(Some(0), &interface);
            if let Some(interface) = index {
                placed.push(Placed {
                    rule,
                    slot,
                    interface,
                });
            }
        }
        let mut contents = compile::compile(&placed)?;
        self.place_backends(&mut contents)?;
        self.write_clients(&contents.clients)?;
        let old = self.listeners()?;
        self.write_shapes(&contents.shapes, &old)?;
        for (id, entry) in &contents.listeners {
            let key = compile::listener_key(id);
            self.tables.listeners.insert(key, entry, 0)?;
        }
        for id in old
            .iter()
            .filter(|id| !contents.listeners.contains_key(*id))
        {
            self.tables.listeners.remove(&compile::listener_key(id))?;
        }
        self.write_shapes(&contents.shapes, &BTreeSet::new())?;
        self.remove_stale_clients(&contents.clients)
    }

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
    pub fn free_slots(&mut self, rules: &[Rule], used: &BTreeSet<u32>) -> anyhow::Result<()> {
        let free: Vec<_> = self
            .names
            .iter()
            .filter(|(name, slot)| {
                !used.contains(slot) && !rules.iter().any(|rule| rule.name == **name)
            })
            .map(|(name, slot)| (name.clone(), *slot))
            .collect();
        for (name, slot) in free {
            self.tables.rule_names.remove(&slot)?;
            self.names.remove(&name);
        }
        Ok(())
    }

    /// The slot of the rule `name`, the next of the `free` ones if it has none.
    fn slot(&mut self, name: &str, free: &mut impl Iterator<Item = u32>) -> anyhow::Result<u32> {
        if let Some(slot) = self.names.get(name) {
            return Ok(*slot);
        }
        let slot = free
            .next()
            .context("no room for another rule until old flows end; raise `limits.rules`")?;
        self.zero_counters(slot)?;
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
        Ok(())
    }

    /// Writes the backends into the half that no listener leads to, and makes the new listeners lead there.
    fn place_backends(&mut self, contents: &mut Contents) -> anyhow::Result<()> {
        // The table is made twice as long as the rule tables.
        let half = self.sizes.rules;
        anyhow::ensure!(
            contents.backends.len() as u64 <= u64::from(half),
            "{} backends do not fit into a table made for {half}: raise `limits.rules`, then `forwarder detach`",
            contents.backends.len(),
        );
        let mut in_use = 0;
        if let Some(entry) = self.tables.listeners.iter().next() {
            in_use = entry?.1.backends / half;
        }
        let start = if in_use == 0 { half } else { 0 };
        for (index, backend) in (start..).zip(&contents.backends) {
            self.tables.backends.set(index, backend, 0)?;
        }
        for entry in contents.listeners.values_mut() {
            entry.backends += start;
        }
        Ok(())
    }

    fn listeners(&self) -> anyhow::Result<BTreeSet<ListenerId>> {
        let mut ids = BTreeSet::new();
        for key in self.tables.listeners.keys() {
            ids.insert(compile::listener_id(&key?));
        }
        Ok(ids)
    }

    /// Puts the shapes of `new` in force, and those of the listeners in `old`, so that both are found while
    /// the listeners change. They are written into the half of the table that is not in use.
    fn write_shapes(
        &mut self,
        new: &BTreeSet<Shape>,
        old: &BTreeSet<ListenerId>,
    ) -> anyhow::Result<()> {
        let mut shapes = new.clone();
        shapes.extend(old.iter().map(|(address, interface, _, shift, _)| Shape {
            any_address: u8::from(*address == [0; 4]),
            any_interface: u8::from(*interface == 0),
            shift: *shift,
            padding: 0,
        }));
        let mut settings = self.settings()?;
        let half = ShapeRange::from_raw(settings.shapes).other_half(shapes.len());
        for (index, shape) in (half.first()..).zip(&shapes) {
            self.tables.shapes.set(index, shape, 0)?;
        }
        settings.shapes = half.raw();
        self.set_settings(settings)
    }

    fn write_clients(&mut self, wanted: &BTreeMap<ClientId, u32>) -> anyhow::Result<()> {
        for (id, verdict) in wanted {
            self.tables.clients.insert(&client_key(id), verdict, 0)?;
        }
        Ok(())
    }

    fn remove_stale_clients(&mut self, wanted: &BTreeMap<ClientId, u32>) -> anyhow::Result<()> {
        let mut stale = Vec::new();
        for key in self.tables.clients.keys() {
            let key = key?;
            let data = key.data();
            let id = (key.prefix_len(), data.rule, data.address.octets());
            if !wanted.contains_key(&id) {
                stale.push(id);
            }
        }
        for id in stale {
            self.tables.clients.remove(&client_key(&id))?;
        }
        Ok(())
    }
}

fn client_key(id: &ClientId) -> Key<ClientKey<V4>> {
    let (length, rule, address) = *id;
    Key::new(
        length,
        ClientKey {
            rule,
            address: V4::new(address),
        },
    )
}
