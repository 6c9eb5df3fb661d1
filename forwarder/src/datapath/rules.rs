//! Rules in the kernel: only differences are written, in an order that never leaves a gap.

use std::collections::BTreeSet;

use aya::maps::lpm_trie::Key;
use forwarder_common::{
    address::{V4, V6},
    network::Network,
    rule::{ClientKey, OutboundKey, Shape, ShapeRange},
};

use super::{
    Datapath,
    compile::{self, AnyRule, ClientId, Contents, ListenerId, Placed},
    family::Family,
    room::Needs,
    tables::FamilyTables,
};
use crate::config::{Config, Masquerade, Output, Rule};

/// What [`Datapath::set_rules`] has put into the tables.
#[derive(Debug)]
pub struct InForce {
    pub(super) v4: Contents<V4>,
    pub(super) v6: Contents<V6>,
}

/// Every rule, of all three kinds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleSet<'a> {
    /// What comes in.
    pub forwards: &'a [Rule],
    /// What goes out.
    pub masquerades: &'a [Masquerade],
    /// What this host itself sends.
    pub outputs: &'a [Output],
}

impl<'a> From<&'a Config> for RuleSet<'a> {
    fn from(config: &'a Config) -> Self {
        Self {
            forwards: &config.rules,
            masquerades: &config.masquerades,
            outputs: &config.outputs,
        }
    }
}

impl<'a> RuleSet<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = AnyRule<'a>> {
        let forwards = self.forwards.iter().map(AnyRule::Forward);
        let masquerades = self.masquerades.iter().map(AnyRule::Masquerade);
        let outputs = self.outputs.iter().map(AnyRule::Output);
        forwards.chain(masquerades).chain(outputs)
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether packets that this host itself sends are to be looked at.
    pub fn needs_egress(self) -> bool {
        let local = |rule: &Rule| rule.backends().is_empty();
        !self.outputs.is_empty() || self.forwards.iter().any(local)
    }
}

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
        rules: RuleSet<'_>,
        interface: impl Fn(&str) -> Option<u32>,
    ) -> anyhow::Result<InForce> {
        let mut placed = Vec::new();
        let taken: BTreeSet<u32> = self.names.values().copied().collect();
        let mut free = (0..self.sizes.rules).filter(move |slot| !taken.contains(slot));
        for rule in rules.iter() {
            let slot = self.slot(rule, &mut free)?;
            let index = rule.interface().map_or(Some(0), &interface);
            if let Some(interface) = index {
                placed.push(Placed {
                    rule,
                    slot,
                    interface,
                });
            }
        }
        let mut v4 = compile::compile::<V4>(&placed)?;
        let mut v6 = compile::compile::<V6>(&placed)?;
        let needs = Needs::of_contents(&v4, &v6);
        let families = needs.flows | self.settings()?.families;
        self.make_room(needs)?;
        self.check_room(&v4)?;
        self.check_room(&v6)?;
        // Before anything is changed: a program that the kernel refuses is found here.
        self.programs.serve(families)?;
        // The table is made twice as long as the rule tables.
        let half = self.sizes.rules;
        self.tables.v4.prepare(&mut v4, half)?;
        self.tables.v6.prepare(&mut v6, half)?;
        self.tables.v4.concern_rules(&v4)?;
        self.tables.v6.concern_rules(&v6)?;
        let new: BTreeSet<Shape> = v4.shapes.union(&v6.shapes).copied().collect();
        let (old_v4, old_v6) = (self.tables.v4.ids()?, self.tables.v6.ids()?);
        let old = old_v4.iter().chain(&old_v6).map(shape);
        self.write_shapes(&old.chain(new.iter().copied()).collect())?;
        self.tables.v4.put_in_force(&v4, &old_v4)?;
        self.tables.v6.put_in_force(&v6, &old_v6)?;
        self.write_shapes(&new)?;
        self.tables.v4.remove_stale(&v4)?;
        self.tables.v6.remove_stale(&v6)?;
        self.rule_fill.clear();
        self.note_rule_fill(&v4);
        self.note_rule_fill(&v6);
        self.pooled = placed.iter().filter_map(Placed::pooled).collect();
        let mut settings = self.settings()?;
        settings.families = families;
        settings.outbound = u32::from(!v4.outbound.is_empty() || !v6.outbound.is_empty());
        self.set_settings(settings)?;
        Ok(InForce { v4, v6 })
    }

    /// Puts `shapes` in force, written into the half of the table that is not in use.
    fn write_shapes(&mut self, shapes: &BTreeSet<Shape>) -> anyhow::Result<()> {
        let mut settings = self.settings()?;
        let half = ShapeRange::from_raw(settings.shapes).other_half(shapes.len());
        for (index, shape) in (half.first()..).zip(shapes) {
            self.tables.shapes.set(index, shape, 0)?;
        }
        settings.shapes = half.raw();
        self.set_settings(settings)
    }
}

/// The shape of a listener.
fn shape(id: &ListenerId) -> Shape {
    let (address, interface, _, shift, _) = id;
    Shape {
        any_address: u8::from(address.is_none()),
        any_interface: u8::from(*interface == 0),
        shift: *shift,
        padding: 0,
    }
}

impl<A: Family + Network> FamilyTables<A> {
    /// Writes what no listener leads to yet: the backends, into the half that is not in use, to which the
    /// new listeners will lead, and the clients.
    fn prepare(&mut self, contents: &mut Contents<A>, half: u32) -> anyhow::Result<()> {
        anyhow::ensure!(
            contents.backends.len() as u64 <= u64::from(half),
            "{} backends do not fit into a table made for {half}: raise `limits.rules`, then `forwarder detach`",
            contents.backends.len(),
        );
        let mut in_use = 0;
        for entry in self.listeners.iter() {
            let (_, entry) = entry?;
            if entry.backend_count != 0 {
                in_use = entry.backends / half;
                break;
            }
        }
        let start = if in_use == 0 { half } else { 0 };
        for (index, backend) in (start..).zip(&contents.backends) {
            self.backends.set(index, backend, 0)?;
        }
        for entry in contents.listeners.values_mut() {
            entry.backends += start;
        }
        contents.start = start;
        for (id, verdict) in &contents.clients {
            self.clients.insert(&client_key(id), verdict, 0)?;
        }
        Ok(())
    }

    /// The listeners in force.
    fn ids(&self) -> anyhow::Result<BTreeSet<ListenerId>> {
        let mut ids = BTreeSet::new();
        for key in self.listeners.keys() {
            ids.insert(compile::listener_id(&key?));
        }
        Ok(ids)
    }

    /// Makes the new listeners and outbound clients those in force.
    fn put_in_force(
        &mut self,
        contents: &Contents<A>,
        old: &BTreeSet<ListenerId>,
    ) -> anyhow::Result<()> {
        for (id, entry) in &contents.listeners {
            self.listeners
                .insert(compile::listener_key::<A>(id), entry, 0)?;
        }
        for (id, slot) in &contents.outbound {
            self.outbound.insert(&outbound_key(id), slot, 0)?;
        }
        let mut stale = Vec::new();
        for key in self.outbound.keys() {
            let key = key?;
            let data = key.data();
            let id = (key.prefix_len(), data.interface, data.address.ip());
            if !contents.outbound.contains_key(&id) {
                stale.push(id);
            }
        }
        for id in stale {
            self.outbound.remove(&outbound_key(&id))?;
        }
        for id in old
            .iter()
            .filter(|id| !contents.listeners.contains_key(*id))
        {
            self.listeners.remove(&compile::listener_key::<A>(id))?;
        }
        Ok(())
    }

    /// Removes the clients of rules that are gone.
    fn remove_stale(&mut self, contents: &Contents<A>) -> anyhow::Result<()> {
        let mut stale = Vec::new();
        for key in self.clients.keys() {
            let key = key?;
            let data = key.data();
            let id = (key.prefix_len(), data.rule, data.address.ip());
            if !contents.clients.contains_key(&id) {
                stale.push(id);
            }
        }
        for id in stale {
            self.clients.remove(&client_key(&id))?;
        }
        Ok(())
    }
}

fn client_key<A: Family>(id: &ClientId) -> Key<ClientKey<A>> {
    let (length, rule, address) = *id;
    let address = A::of(address).unwrap_or_default();
    Key::new(length, ClientKey { rule, address })
}

fn outbound_key<A: Family>(id: &ClientId) -> Key<OutboundKey<A>> {
    let (length, interface, address) = *id;
    let address = A::of(address).unwrap_or_default();
    Key::new(length, OutboundKey { interface, address })
}
