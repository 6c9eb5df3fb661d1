//! One flow, as it is kept.
//!
//! The key begins with what is asked for, so that an answer is one walk over neighbouring records. The rest of it makes
//! it unique: a flow has its tuples for itself from the moment it was made, which is counted from the start of the
//! host, so that a clock that is set back cannot give two flows one key.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    control::FlowProtocol,
    events::{Closed, FlowEvent},
};

/// One flow, open or gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who began it.
    pub client: SocketAddr,
    /// What the client talked to.
    pub listener: SocketAddr,
    /// Whom the backend saw.
    pub translated: SocketAddr,
    /// Where it led.
    pub backend: SocketAddr,
    /// The protocol.
    pub protocol: FlowProtocol,
    /// The rule that made it.
    pub rule: String,
    /// When it was made, to about a second.
    pub start: Timestamp,
    /// Whether it is in the flow table now.
    pub open: bool,
    /// How it has ended, if that is known: not of one that is open, nor of one that was open when the host went down.
    #[serde(flatten)]
    pub closed: Option<Closed>,
}

impl Record {
    /// Of a flow that is in the table if `open`.
    pub fn of(event: &FlowEvent, open: bool) -> Self {
        Self {
            client: event.client,
            listener: event.listener,
            translated: event.translated,
            backend: event.backend,
            protocol: event.protocol,
            rule: event.rule.clone(),
            start: event.start,
            open,
            closed: event.closed,
        }
    }
}

/// The key of the flow of `event` on a host that was started as `boot`.
pub(super) fn key(event: &FlowEvent, boot: u32) -> Vec<u8> {
    let mut key = prefix(event.protocol, event.translated);
    key.extend_from_slice(&boot.to_be_bytes());
    key.extend_from_slice(&event.created.to_be_bytes());
    end(&mut key, event.client);
    end(&mut key, event.backend);
    key
}

/// What the keys of all flows of a translated address and port begin with.
pub(super) fn prefix(protocol: FlowProtocol, translated: SocketAddr) -> Vec<u8> {
    let family = if translated.is_ipv4() { 4 } else { 6 };
    let mut key = vec![protocol as u8, family];
    end(&mut key, translated);
    key
}

fn end(key: &mut Vec<u8>, end: SocketAddr) {
    match end.ip() {
        IpAddr::V4(address) => key.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => key.extend_from_slice(&address.octets()),
    }
    key.extend_from_slice(&end.port().to_be_bytes());
}

/// Reads a key: the client and the backend.
pub(super) fn parse_key(key: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let size = match key.get(1)? {
        4 => 4,
        _ => 16,
    };
    let tail = key.get(2 + size + 2 + 8..)?;
    let (client, backend) = tail.split_at_checked(size + 2)?;
    Some((parse_end(client)?, parse_end(backend)?))
}

fn parse_end(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    let address = match <[u8; 4]>::try_from(address) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)))
}

/// What is kept under the key: times in milliseconds since 1970.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Value {
    pub listener: SocketAddr,
    pub rule: String,
    pub start: i64,
    pub end: Option<End>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub end: i64,
    pub closed: ClosedParts,
}

/// [`Closed`] without its time.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClosedParts {
    pub cause: crate::events::Cause,
    pub original: crate::events::Counts,
    pub reply: crate::events::Counts,
}

impl Value {
    pub fn of(event: &FlowEvent) -> Self {
        Self {
            listener: event.listener,
            rule: event.rule.clone(),
            start: event.start.as_millisecond(),
            end: event.closed.map(|closed| End {
                end: closed.end.as_millisecond(),
                closed: ClosedParts {
                    cause: closed.cause,
                    original: closed.original,
                    reply: closed.reply,
                },
            }),
        }
    }

    /// The record of the flow with this key; `None` if either is not what this version writes.
    pub fn record(self, key: &[u8], found: (FlowProtocol, SocketAddr)) -> Option<Record> {
        let (client, backend) = parse_key(key)?;
        let (protocol, translated) = found;
        let time = |ms: i64| Timestamp::from_millisecond(ms).ok();
        Some(Record {
            client,
            listener: self.listener,
            translated,
            backend,
            protocol,
            rule: self.rule,
            start: time(self.start)?,
            open: false,
            closed: match self.end {
                Some(end) => Some(Closed {
                    end: time(end.end)?,
                    cause: end.closed.cause,
                    original: end.closed.original,
                    reply: end.closed.reply,
                }),
                None => None,
            },
        })
    }
}
