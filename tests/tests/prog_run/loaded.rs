//! Loaded datapaths, handed on from test to test: the verifier takes half a second for each program.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use forwarder::config::Timeouts;
use forwarder::datapath::{Datapath, RuleSet, Sizes};

/// Datapaths that a test is done with.
static SPARE: Mutex<Vec<Datapath>> = Mutex::new(Vec::new());

/// A datapath without rules and flows; its counters may be those of an earlier test.
pub struct Loaded(Option<Datapath>);

impl Loaded {
    /// One with tables of these sizes.
    pub fn of(sizes: Sizes) -> Self {
        let mut spare = SPARE.lock().expect("no test panics with the lock held");
        let found = spare.iter().position(|datapath| datapath.sizes() == sizes);
        let found = found.map(|index| spare.swap_remove(index));
        drop(spare);
        found.map_or_else(|| Self::new(sizes), |datapath| Self(Some(datapath)))
    }

    /// One that no other test has had. An empty one is not quite that: bits of the filter of addresses are never taken
    /// back, and places of the flow cache are only forgotten.
    pub fn new(sizes: Sizes) -> Self {
        let loaded = Datapath::load(sizes, None);
        Self(Some(loaded.expect("the kernel takes the programs")))
    }
}

impl Deref for Loaded {
    type Target = Datapath;

    fn deref(&self) -> &Datapath {
        self.0.as_ref().expect("there until dropped")
    }
}

impl DerefMut for Loaded {
    fn deref_mut(&mut self) -> &mut Datapath {
        self.0.as_mut().expect("there until dropped")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // What a failed test leaves is not known.
        if let Some(mut datapath) = self.0.take()
            && !std::thread::panicking()
            && empty(&mut datapath).is_ok()
            && let Ok(mut spare) = SPARE.lock()
        {
            spare.push(datapath);
        }
    }
}

/// Removes every rule and every flow.
fn empty(datapath: &mut Datapath) -> anyhow::Result<()> {
    // Eleven days from now, when the longest timeout is over.
    let mut clock = datapath.clock(1000)?;
    clock.now += 1_000_000_000;
    datapath.sweep(&clock, &Timeouts::default())?;
    anyhow::ensure!(datapath.flow_counts()? == (0, 0), "flows are left");
    datapath.set_rules(RuleSet::default(), |_| None)?;
    datapath.free_slots(RuleSet::default(), &BTreeSet::new())
}
