//! Tables that are made small and get their size when something needs them: the flows of an address family that no rule
//! is about take no memory, nor do mappings where no rule makes any.

use std::{fs, io, path::PathBuf};

use anyhow::Context as _;
use forwarder_common::{
    address::{V4, V6},
    settings::{FAMILY_V4, FAMILY_V6},
};
use tracing::info;

use super::{
    Datapath, RuleSet, Sizes,
    compile::{Contents, Placed, compile},
    family::Family,
    pins::Pins,
    tables::FamilyTables,
};

/// Entries of a table that nothing needs.
const LEAST: u32 = 2;

/// What rules need; each as [`FAMILY_V4`] and [`FAMILY_V6`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Families that flows are of.
    pub flows: u32,
    /// Families that mappings are of.
    pub mappings: u32,
}

impl Needs {
    /// Everything.
    pub const ALL: Self = Self {
        flows: FAMILY_V4 | FAMILY_V6,
        mappings: FAMILY_V4 | FAMILY_V6,
    };

    /// What `rules` need.
    ///
    /// # Errors
    /// The rules do not fit.
    pub fn of(rules: RuleSet<'_>) -> anyhow::Result<Self> {
        let placed = |(slot, rule)| Placed {
            rule,
            slot,
            interface: 0,
        };
        let placed: Vec<_> = (0..).zip(rules.iter()).map(placed).collect();
        Ok(Self::of_contents(
            &compile::<V4>(&placed)?,
            &compile::<V6>(&placed)?,
        ))
    }

    /// What the rules need that were put in these places.
    pub(super) fn of_contents(v4: &Contents<V4>, v6: &Contents<V6>) -> Self {
        let both = |v4, v6| {
            let family = |needed, family| if needed { family } else { 0 };
            family(v4, FAMILY_V4) | family(v6, FAMILY_V6)
        };
        Self {
            flows: both(!v4.listeners.is_empty(), !v6.listeners.is_empty()),
            mappings: both(v4.makes_mappings(), v6.makes_mappings()),
        }
    }

    /// What either of them needs.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            flows: self.flows | other.flows,
            mappings: self.mappings | other.mappings,
        }
    }

    /// What `self` needs and `has` does not give.
    const fn beyond(self, has: Self) -> Self {
        Self {
            flows: self.flows & !has.flows,
            mappings: self.mappings & !has.mappings,
        }
    }

    /// The tables that have their size only for these needs, with the families that need them.
    const fn tables(self) -> [([&'static str; 2], u32); 3] {
        [
            (["FLOWS_V4", "FLOWS_V6"], self.flows),
            (["CACHE_V4", "CACHE_V6"], self.flows),
            (["MAPPINGS_V4", "MAPPINGS_V6"], self.mappings),
        ]
    }
}

impl Sizes {
    /// How many entries each table is made with on a machine with so many CPUs.
    pub fn entries(self, needs: Needs, cpus: u32) -> Vec<(&'static str, u32)> {
        let mut entries = Vec::new();
        for (names, count) in self.tables(cpus) {
            let needed = needs
                .tables()
                .into_iter()
                .find(|(on_need, _)| *on_need == names);
            let needed = needed.map_or(FAMILY_V4 | FAMILY_V6, |(_, families)| families);
            for (name, family) in names.into_iter().zip([FAMILY_V4, FAMILY_V6]) {
                let count = if needed & family != 0 {
                    count
                } else {
                    count.min(LEAST * cpus)
                };
                entries.push((name, count));
            }
        }
        entries
    }
}

impl<A: Family> FamilyTables<A> {
    /// What these tables have room for: an adopted one is as large as an earlier daemon has made it. Where so few flows
    /// are wanted that it makes no difference, there is room.
    pub(super) fn has(&self, cpus: u32, wanted: Sizes) -> Needs {
        let family = if A::IPV6 { FAMILY_V6 } else { FAMILY_V4 };
        let least = LEAST * cpus;
        let is_made = |capacity: u32| {
            if capacity > least || wanted.flows.saturating_mul(2) <= least {
                family
            } else {
                0
            }
        };
        Needs {
            flows: is_made(self.flows.all.capacity()),
            mappings: is_made(self.mappings.capacity()),
        }
    }
}

impl Datapath {
    /// Sees to it that there is room for what `needs` says: loads the object once more, with all tables that are large
    /// enough and new ones for those that are not. They are empty: nothing has needed them. Traffic goes on by the
    /// programs that are at work until [`Datapath::attach`] puts the new ones in their places.
    pub(super) fn make_room(&mut self, needs: Needs) -> anyhow::Result<()> {
        let lacking = needs.beyond(self.has);
        if lacking == Needs::default() {
            return Ok(());
        }
        let pins = self
            .pins
            .clone()
            .context("tables without pins have their size")?;
        let families = [FAMILY_V4, FAMILY_V6];
        let names: Vec<_> = lacking
            .tables()
            .into_iter()
            .flat_map(|(names, needed)| {
                names
                    .into_iter()
                    .zip(families)
                    .filter(move |(_, family)| needed & family != 0)
            })
            .map(|(name, _)| name)
            .collect();
        let aside = Aside::put(&pins, &names)?;
        let mut new = Self::open(self.sizes, self.has.and(needs), Some(pins))?;
        // Before anything is changed: a program that the kernel refuses is found here.
        new.programs.as_before(&self.programs)?;
        aside.remove()?;
        info!(
            "made room for what the rules need: {}",
            names.join(", ").to_lowercase()
        );
        self.view.renew(new.view.now());
        self.programs = new.programs;
        self.tables = new.tables;
        // Whoever reads the messages goes on, it is the same ring; but programs that are loaded later need this one.
        self.words = new.words;
        self.has = new.has;
        self.is_renewed = true;
        Ok(())
    }

    /// Whether programs have been loaded anew since this was last asked, so that they are to be attached once more.
    pub fn was_renewed(&mut self) -> bool {
        std::mem::take(&mut self.is_renewed)
    }
}

/// Pins that are out of the way while new maps get their names. They come back if that fails.
struct Aside(Vec<(PathBuf, PathBuf)>);

impl Aside {
    fn put(pins: &Pins, names: &[&str]) -> anyhow::Result<Self> {
        let mut aside = Self(Vec::new());
        for name in names {
            let path = pins.map(name);
            let away = path.with_file_name(format!("{}-small", name.to_lowercase()));
            match fs::rename(&path, &away) {
                Ok(()) => aside.0.push((path, away)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot move {}", path.display()));
                }
            }
        }
        Ok(aside)
    }

    /// They are not needed any more.
    fn remove(mut self) -> io::Result<()> {
        for (_, away) in self.0.drain(..) {
            fs::remove_file(away)?;
        }
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        for (path, away) in &self.0 {
            // What has been made there is in nobody's use.
            let _absent = fs::remove_file(path);
            let _gone = fs::rename(away, path);
        }
    }
}

/// Flows that the tables are made for: of those families that have tables.
pub(super) fn flows(v4: &FamilyTables<V4>, v6: &FamilyTables<V6>, has: Needs, wanted: u32) -> u32 {
    if has.flows & FAMILY_V4 != 0 {
        v4.flows.all.capacity() / 2
    } else if has.flows & FAMILY_V6 != 0 {
        v6.flows.all.capacity() / 2
    } else {
        wanted
    }
}
