//! A packet in words as bytes, and bytes as a packet in words: what `forwarder explain` runs and what it shows.

mod frame;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::control::FlowProtocol;

pub(crate) use frame::{Tag, build, read};

/// A packet that is to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExplainQuery {
    /// The device that it comes in by; with `output`, that it is about to leave by.
    pub interface: String,
    /// Its protocol.
    pub protocol: FlowProtocol,
    /// Its source; an echo's identifier stands for the port.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
    /// Of TCP.
    pub flags: Vec<TcpFlag>,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Bytes behind its headers.
    pub payload: u16,
    /// Whether this host itself sends it.
    pub output: bool,
}

/// A flag of TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named like the flags")]
pub enum TcpFlag {
    Syn,
    Ack,
    Fin,
    Rst,
    Psh,
}
