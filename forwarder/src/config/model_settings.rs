//! The validated settings that are no rules: limits, timeouts, control socket, metrics, logs, history.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::model::PortRange;
use crate::events::Kind;

/// Sizes of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established flows.
    pub flows: u32,
    /// TCP flows whose handshake is not finished.
    pub half_open: u32,
    /// Rules, each counted once per protocol and backend.
    pub rules: u32,
    /// Key `source-ports`: ports used to translate source ports; `None`: what the host's own range leaves free.
    pub ports: Option<PortRange>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 262_144,
            half_open: 65_536,
            rules: 65_536,
            ports: None,
        }
    }
}

/// How long flows live without a packet. None is below a second or beyond 40 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP after the handshake.
    pub tcp_established: Duration,
    /// TCP during the handshake.
    pub tcp_half_open: Duration,
    /// TCP that is being closed.
    pub tcp_transitory: Duration,
    /// UDP that only one side has spoken on.
    pub udp: Duration,
    /// UDP that both sides have spoken on.
    pub udp_stream: Duration,
    /// ICMP queries.
    pub icmp: Duration,
    /// How long flows with [`OnChange::Drain`](super::OnChange::Drain) live on, packets or none.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const DAY: u64 = 24 * 60 * MINUTE;
        Self {
            tcp_established: Duration::from_secs(5 * DAY),
            tcp_half_open: Duration::from_secs(4 * MINUTE),
            tcp_transitory: Duration::from_secs(4 * MINUTE),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(3 * MINUTE),
            icmp: Duration::from_secs(30),
            drain: Duration::from_secs(60 * MINUTE),
        }
    }
}

/// How the daemon is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The Unix socket, an absolute path.
    pub socket: PathBuf,
    /// The group that it belongs to; `None`: the daemon's.
    pub group: Option<String>,
    /// Its permissions, never any for others than owner and group.
    pub mode: u32,
}

impl Control {
    /// Permissions as they are written. Whoever may not write may not connect, so there is nothing between.
    pub(super) const MODES: [(&'static str, u32); 2] = [("0660", 0o660), ("0600", 0o600)];
}

impl Default for Control {
    fn default() -> Self {
        Self {
            socket: super::DEFAULT_SOCKET.into(),
            group: None,
            mode: 0o660,
        }
    }
}

/// Where Prometheus finds metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The address to listen on; the port is not 0.
    pub listen: SocketAddr,
}

/// Who may ask where a connection was going before it was translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalDestination {
    /// At least one.
    pub proxies: Vec<Ipv4Addr>,
    /// The UDP port that they ask at.
    pub port: u16,
    /// What every query must have; clear text.
    pub secret: u32,
}

/// What the daemon writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// From which level on.
    pub level: Level,
    /// In which shape.
    pub format: Format,
}

/// Where flows are written down as they begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLog {
    /// A file, an absolute path. `None`: only the journal.
    pub path: Option<PathBuf>,
    /// Whether the journal gets them.
    pub journald: bool,
    /// In which shape the file has them.
    pub format: Format,
    /// Which kinds, at least one.
    pub events: Vec<Kind>,
}

/// What is kept of flows that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The database, an absolute path.
    pub path: PathBuf,
    /// For how long; whole days at least one.
    pub keep: Duration,
}

impl History {
    /// [`History::keep`] where the file does not say.
    pub const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
}

/// How much the daemon writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the usual five")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl Level {
    pub(super) const WORDS: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// As written in a file, and as filters of log lines call it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, level)| *level == self)
            .map_or("", |(word, _)| word)
    }
}

/// In which shape the daemon writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("text", Self::Text), ("json", Self::Json)];
}
