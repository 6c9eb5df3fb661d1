//! What a namespace's stack and devices counted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// /proc/net/snmp and /proc/net/netstat: `Ip.InReceives`, `Tcp.RetransSegs`, `TcpExt.TCPSynRetrans` and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads the counters of the calling thread's namespace.
    pub(super) fn read() -> Result<Self> {
        let mut all = BTreeMap::new();
        // Not /proc/net: that is the namespace of the process, not of the thread.
        for file in ["snmp", "netstat"] {
            let path = format!("/proc/thread-self/net/{file}");
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
            all.extend(parse(&text));
        }
        Ok(Self(all))
    }

    /// One counter by its name, `Ip.InReceives` for example.
    ///
    /// # Panics
    /// If the kernel has no such counter: a typing mistake in a test would otherwise read as zero.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        *self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("the kernel has no counter {name}"))
    }

    /// How far one counter has moved since `earlier`.
    ///
    /// # Panics
    /// As [`Counters::get`].
    #[must_use]
    pub fn since(&self, earlier: &Self, name: &str) -> u64 {
        self.get(name).wrapping_sub(earlier.get(name))
    }
}

/// Pairs of lines: `Tcp: Name Name …` and `Tcp: 1 2 …`. Values that are not counters (`MaxConn -1`) are left out.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (mut names, values) = (
            pair[0].split_whitespace(),
            pair[1].split_whitespace().skip(1),
        );
        let section = names.next().unwrap_or_default().trim_end_matches(':');
        found.extend(names.zip(values).filter_map(|(name, value)| {
            let value = value.parse().ok()?;
            Some((format!("{section}.{name}"), value))
        }));
    }
    found
}

/// What a device counted, from /proc/net/dev.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

impl DeviceCounters {
    /// Reads the counters of a device in the calling thread's namespace.
    pub(super) fn read(device: &str) -> Result<Self> {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")
            .context("reading /proc/net/dev")?;
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'))
            .with_context(|| format!("there is no device {device}"))?;
        let fields: Vec<u64> = line
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        let field = |at: usize| {
            fields
                .get(at)
                .copied()
                .context("/proc/net/dev has a line that is too short")
        };
        Ok(Self {
            rx_packets: field(1)?,
            tx_packets: field(9)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_pairs_of_lines() {
        let counters = Counters(parse(
            "Ip: Forwarding InReceives\nIp: 1 42\nTcp: MaxConn RetransSegs\nTcp: -1 7\n",
        ));
        assert_eq!(counters.get("Ip.InReceives"), 42);
        assert_eq!(counters.get("Tcp.RetransSegs"), 7);
        assert!(!counters.0.contains_key("Tcp.MaxConn"));
    }
}
