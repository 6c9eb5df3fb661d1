//! One event, as it is told, logged and kept.

use std::net::SocketAddr;

use forwarder_common::tcp::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::FlowProtocol;

/// What has happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was made
    New,
    /// TCP's handshake is complete, or the first reply has come
    Established,
    /// It is gone, and its translated port free
    Closed,
}

impl Kind {
    /// All of them, in the order in which they happen.
    pub const ALL: [Self; 3] = [Self::New, Self::Established, Self::Closed];

    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closed => "closed",
        }
    }

    /// A bit of its own, so that a word holds a set of them.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The set of all of `kinds`.
    pub fn bits(kinds: impl IntoIterator<Item = Self>) -> u32 {
        kinds.into_iter().fold(0, |bits, kind| bits | kind.bit())
    }
}

/// Why a flow is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Both sides had sent FIN.
    Finished,
    /// A side had sent RST.
    Reset,
    /// Nothing came for as long as its state allows.
    Idle,
    /// TCP's handshake was never completed.
    NoHandshake,
    /// It was over, and its client has begun anew from the same port.
    Reopened,
    /// The forwarder has ended it: its rule has changed, or the address that stood for its client is gone.
    Ended,
}

impl Cause {
    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::NoHandshake => "no-handshake",
            Self::Reopened => "reopened",
            Self::Ended => "ended",
        }
    }

    /// Why a flow in this state has been given up after a time of silence.
    pub const fn of(state: State) -> Self {
        match state {
            State::SynSent | State::SynReceived => Self::NoHandshake,
            State::TimeWait => Self::Finished,
            State::Close => Self::Reset,
            State::Established | State::FinWait | State::Unreplied | State::Stream => Self::Idle,
        }
    }
}

/// What one direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counts {
    /// Packets.
    pub packets: u64,
    /// Bytes, counted from the IP header.
    pub bytes: u64,
}

/// How a flow has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Closed {
    /// When its last packet came.
    pub end: Timestamp,
    /// Why it is gone.
    pub cause: Cause,
    /// From the client.
    pub original: Counts,
    /// From the backend.
    pub reply: Counts,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FlowEvent {
    /// What has happened.
    pub event: Kind,
    /// When.
    pub time: Timestamp,
    /// The rule that made the flow.
    pub rule: String,
    /// The protocol.
    pub protocol: FlowProtocol,
    /// As `forwarder flows` shows it.
    pub state: String,
    /// Who began it.
    pub client: SocketAddr,
    /// What the client talks to.
    pub listener: SocketAddr,
    /// Whom the backend sees.
    pub translated: SocketAddr,
    /// Where it leads.
    pub backend: SocketAddr,
    /// When it was made, to about a second.
    pub start: Timestamp,
    /// How it has ended, if it has.
    #[serde(flatten)]
    pub closed: Option<Closed>,
    /// [`forwarder_common::flow::FlowEntry::created`]: with the tuples it tells a flow from all others since the host
    /// has started, whatever its clock was set to meanwhile.
    #[serde(skip)]
    pub created: u32,
}
