//! Filling the filter of addresses, see [`forwarder_common::concern`].

use std::collections::BTreeMap;

use forwarder_common::{
    concern::{End, bit},
    rule::{LOCAL, OUTBOUND},
};

use super::{compile::Contents, family::Family, tables::FamilyTables};

/// Bits to be set, by word.
#[derive(Default)]
struct Bits(BTreeMap<u32, u64>);

impl Bits {
    fn add<A: Family>(&mut self, end: End, address: A) {
        let (word, bit) = bit(end, address);
        *self.0.entry(word).or_default() |= bit;
    }

    fn add_all(&mut self, end: End) {
        self.0.extend(end.words().map(|word| (word, u64::MAX)));
    }
}

impl<A: Family> FamilyTables<A> {
    /// Has packets that the rules of `contents` are about looked at, replies included. To be called before the rules
    /// are in force.
    pub(super) fn concern_rules(&mut self, contents: &Contents<A>) -> anyhow::Result<()> {
        let mut bits = Bits::default();
        for (address, interface, ..) in contents.listeners.keys() {
            // Those of clients' rules and of connections from here are looked for by other ways.
            if *interface == LOCAL || interface & OUTBOUND != 0 {
                continue;
            }
            match address.map(A::of) {
                Some(Some(address)) => bits.add(End::Destination, address),
                Some(None) => {}
                None => bits.add_all(End::Destination),
            }
        }
        for backend in &contents.backends {
            bits.add(End::Source, backend.address);
        }
        if !contents.outbound.is_empty() {
            // Clients are known by prefix, and servers not at all.
            bits.add_all(End::Source);
        }
        self.set_bits(bits)
    }

    /// The same for queries from `proxies`, whomever they are sent to, and for those of others to `own` addresses.
    pub(super) fn concern_queries(&mut self, proxies: &[A], own: &[A]) -> anyhow::Result<()> {
        let mut bits = Bits::default();
        for proxy in proxies {
            bits.add(End::Source, *proxy);
        }
        for address in own {
            bits.add(End::Destination, *address);
        }
        self.set_bits(bits)
    }

    /// The same for packets of every flow that there is: it may be of a rule that is no more.
    pub(super) fn concern_flows(&mut self) -> anyhow::Result<()> {
        let mut bits = Bits::default();
        self.flows.all.for_each(|key, entry| {
            if entry.is_original() {
                bits.add(End::Destination, key.destination);
            } else {
                bits.add(End::Source, key.source);
            }
        })?;
        self.set_bits(bits)
    }

    fn set_bits(&mut self, bits: Bits) -> anyhow::Result<()> {
        let mut words = self.concerns.get(&0, 0)?;
        for (word, bits) in bits.0 {
            words[word as usize] |= bits;
        }
        // Programs that read meanwhile find each word as it was or as it is: only this daemon writes them.
        Ok(self.concerns.set(0, words, 0)?)
    }
}
