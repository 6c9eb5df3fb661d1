//! Going on with what another version of the forwarder has left at work.
//!
//! Each version has a directory of pins. Where the layouts agree ([`forwarder_common::layout`]) the same maps are pinned
//! in both, so that programs of both versions see the same flows, and then each device changes its program in one step.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use aya::maps::{Array, Map, MapData};
use forwarder_common::{
    address::{V4, V6},
    layout::{COUNTERS, Layouts, RULES, STATE},
};
use tracing::info;

use super::{Pins, detach_all, family::Family as _};
use crate::fault::{self, Step};

/// Maps by group, those that each family has without their suffix.
const GROUPS: [(usize, &[&str], &[&str]); 3] = [
    (
        STATE,
        &[
            "CACHE_STATE",
            "CONCERNS_V4",
            "CONCERNS_V6",
            "HALF_OPEN",
            "RULE_NAMES",
            "RULE_ON_CHANGE",
            "RULE_OPENED",
            "RULE_TRAFFIC",
        ],
        &[
            "CACHE",
            "DATAGRAMS",
            "DRAINING",
            "FLOWS",
            "HELD",
            "MAPPINGS",
        ],
    ),
    (
        RULES,
        &[
            "DEVICES", "PROXIES", "QUERIES", "SETTINGS", "SHAPES", "VLANS",
        ],
        &[
            "BACKENDS",
            "CLIENTS",
            "LISTENERS",
            "MASQUERADE",
            "OUTBOUND",
            "OWN",
        ],
    ),
    (COUNTERS, &["LAST", "REASONS", "SHADOW"], &[]),
];

/// Names of the maps that are taken over, by group.
fn maps() -> impl Iterator<Item = (usize, String)> {
    GROUPS.into_iter().flat_map(|(group, single, each)| {
        let single = single.iter().map(|name| (*name).to_owned());
        let each = each
            .iter()
            .flat_map(|name| [V4::SUFFIX, V6::SUFFIX].map(|suffix| format!("{name}_{suffix}")));
        single.chain(each).map(move |name| (group, name))
    })
}

/// What other versions have left.
#[derive(Debug)]
pub struct Handover {
    own: Pins,
    others: Vec<Pins>,
}

impl Handover {
    /// Has the maps of another version that is at work pinned where this one looks for them, if there is one. With
    /// `replace` one whose maps cannot be read is taken off.
    ///
    /// # Errors
    /// The other's maps cannot be read and it is not to be replaced, or the kernel refuses something.
    pub fn begin(own: &Pins, replace: bool) -> anyhow::Result<Self> {
        let mut others = own.others()?;
        let mut at_work = Vec::new();
        for (index, other) in others.iter().enumerate() {
            if !other.links()?.is_empty() {
                at_work.push(index);
            }
        }
        for index in at_work.into_iter().rev() {
            let other = &others[index];
            // Maps without a link are of a start that got no further, and may be of another generation.
            if own.links()?.is_empty() && own.exist() {
                own.remove()?;
            }
            if own.exist() || carry(other, own)? {
                info!("taking over from {}", other.directory().display());
                continue;
            }
            let directory = other.directory().display();
            anyhow::ensure!(
                replace,
                "another version of the forwarder is at work ({directory}) whose flows this one cannot read: go on with that version, or end its flows with `forwarder detach` or `forwarder run --replace`"
            );
            detach_all(other)?;
            info!("took off what another version had left in {directory}");
            others.remove(index);
        }
        Ok(Self {
            own: own.clone(),
            others,
        })
    }

    /// Takes over the others' links, so that their programs can be replaced. From here on this version has to go on.
    ///
    /// # Errors
    /// A pin cannot be moved.
    pub fn take_links(&self) -> anyhow::Result<()> {
        for other in &self.others {
            for (path, hook, interface) in other.links()? {
                let to = self.own.link(&hook, interface);
                fs::rename(&path, &to)
                    .with_context(|| format!("cannot move {}", path.display()))?;
                fault::at(Step::Links)?;
            }
        }
        Ok(())
    }

    /// Removes what is left of the others, whose programs no packet meets any more.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn finish(self) -> anyhow::Result<()> {
        for other in self.others {
            other.remove()?;
        }
        Ok(())
    }
}

/// Pins the maps of `from` in `to` as well, those of groups that both have the same layout of. False if flows cannot be
/// carried over; then nothing is.
fn carry(from: &Pins, to: &Pins) -> anyhow::Result<bool> {
    let (theirs, ours) = (layouts(from), fault::layouts());
    let same = |group: usize| theirs[group] != 0 && theirs[group] == ours[group];
    if !same(STATE) {
        return Ok(false);
    }
    to.create()?;
    for (_, name) in maps().filter(|(group, _)| same(*group)) {
        let path = from.map(&name);
        // Both versions need not have the same maps.
        if path.exists() {
            let map = MapData::from_pin(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            map.pin(to.map(&name))
                .with_context(|| format!("cannot pin {name} once more"))?;
        }
        fault::at(Step::Carry)?;
    }
    Ok(true)
}

/// What layouts the maps under `pins` have; zeros if they do not say.
fn layouts(pins: &Pins) -> Layouts {
    let read = |path: &Path| -> anyhow::Result<Layouts> {
        let array: Array<MapData, Layouts> = Map::Array(MapData::from_pin(path)?).try_into()?;
        Ok(array.get(&0, 0)?)
    };
    read(&pins.map("LAYOUTS")).unwrap_or_default()
}

impl Pins {
    /// Those that other versions have in this network namespace.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn others(&self) -> io::Result<Vec<Self>> {
        let own = self.directory();
        let parent = own.parent().unwrap_or(own);
        let entries = match fs::read_dir(parent) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut others = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path != own && namespace_of(&path).is_some_and(|one| Some(one) == namespace_of(own))
            {
                others.push(Self::at(path));
            }
        }
        Ok(others)
    }
}

/// What follows the version in a directory's name; `None` if it is not such a name.
fn namespace_of(directory: &Path) -> Option<&str> {
    let rest = directory.file_name()?.to_str()?.strip_prefix('v')?;
    let digits = rest.chars().take_while(char::is_ascii_digit).count();
    let namespace = &rest[digits..];
    let is_name = digits != 0 && (namespace.is_empty() || namespace.starts_with("-netns-"));
    is_name.then_some(namespace)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;
    use crate::datapath::object;

    /// What is not taken over: programs, and what is read at once.
    const NEVER: [&str; 9] = [
        "AYA_LOGS",
        "EGRESS_STAGES",
        "EVENTS",
        "EVENTS_LOST",
        "EVENT_KINDS",
        "LAYOUTS",
        "SAMPLES",
        "TC_STAGES",
        "XDP_STAGES",
    ];

    #[test]
    fn every_map_is_in_one_group_or_none_on_purpose() {
        let pinned: BTreeSet<String> = object::pinned()
            .map(|name| name.trim_start_matches(".bss.").to_uppercase())
            .collect();
        let grouped: Vec<String> = maps().map(|(_, name)| name).collect();
        let never = NEVER.iter().map(|name| (*name).to_owned());
        let all: BTreeSet<String> = grouped.iter().cloned().chain(never).collect();
        assert_eq!(all, pinned);
        assert_eq!(all.len(), grouped.len() + NEVER.len());
    }

    #[rstest]
    #[case("/sys/fs/bpf/forwarder/v3", Some(""))]
    #[case("/sys/fs/bpf/forwarder/v12-netns-77", Some("-netns-77"))]
    #[case("/sys/fs/bpf/forwarder/v", None)]
    #[case("/sys/fs/bpf/forwarder/v3x", None)]
    #[case("/sys/fs/bpf/forwarder/theirs", None)]
    fn directories(#[case] path: &str, #[case] namespace: Option<&str>) {
        assert_eq!(namespace_of(Path::new(path)), namespace);
    }
}
