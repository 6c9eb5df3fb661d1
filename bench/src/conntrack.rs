//! Room for conntrack's flows, which is the machine's affair and not a namespace's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// How many entries a namespace may have.
const MAXIMUM: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// How many places the hash table of all namespaces has.
const PLACES: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// What the settings were; dropping it puts them back.
#[derive(Debug, Default)]
pub struct Room {
    earlier: Vec<(&'static str, u64)>,
}

impl Room {
    /// Sees to it that a namespace can have `flows` entries, and that the rigs together do not make long chains: a
    /// table that is too small would be held against conntrack. Only raises.
    ///
    /// # Errors
    /// If a setting cannot be read or written.
    pub fn make(flows: u64, rigs: u64) -> Result<Self> {
        let mut room = Self::default();
        // Two directions each.
        for (path, wanted) in [(MAXIMUM, flows + flows / 4), (PLACES, flows * rigs * 2)] {
            // Without conntrack there is nobody to make room for.
            if !Path::new(path).exists() {
                continue;
            }
            let earlier = read(path)?;
            if earlier < wanted {
                fs::write(path, wanted.to_string()).with_context(|| format!("writing {path}"))?;
                room.earlier.push((path, earlier));
            }
        }
        Ok(room)
    }

    /// Puts the settings back.
    pub fn restore(&mut self) {
        for (path, value) in self.earlier.drain(..).rev() {
            if let Err(error) = fs::write(path, value.to_string()) {
                eprintln!("{path} could not be set back to {value}: {error}");
            }
        }
    }

    /// What has been changed, for the reader of the results.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let line = |(path, earlier): &(&str, u64)| {
            let now = read(path).unwrap_or_default();
            format!("{path} was {now} during the run ({earlier} before and after)")
        };
        self.earlier.iter().map(line).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.restore();
    }
}

fn read(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{path} has {text:?}"))
}
