//! journald's native protocol: a datagram of fields for each event.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use std::{io, os::unix::net::UnixDatagram, path::Path};

use super::FlowEvent;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// `6`: informational (syslog(3)).
const PRIORITY: &str = "6";

/// A socket that sends to journald, wherever that is at the time.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    pub(super) fn new() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journald that hangs must not hang the log's thread.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends one event to the journal at `path`.
    pub(super) fn send(&self, path: &Path, event: &FlowEvent) -> io::Result<()> {
        self.socket.send_to(&encode(event), path).map(drop)
    }
}

/// The fields of an event: its line as the message, and everything else to be searched for.
pub(super) fn encode(event: &FlowEvent) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, "MESSAGE", &event.to_string());
    field(&mut out, "PRIORITY", PRIORITY);
    field(&mut out, "SYSLOG_IDENTIFIER", "forwarder");
    field(&mut out, "FORWARDER_EVENT", event.event.name());
    field(&mut out, "FORWARDER_RULE", &event.rule);
    field(&mut out, "FORWARDER_PROTOCOL", event.protocol.name());
    field(&mut out, "FORWARDER_STATE", &event.state);
    field(&mut out, "FORWARDER_CLIENT", &event.client.to_string());
    field(&mut out, "FORWARDER_LISTENER", &event.listener.to_string());
    field(
        &mut out,
        "FORWARDER_TRANSLATED",
        &event.translated.to_string(),
    );
    field(&mut out, "FORWARDER_BACKEND", &event.backend.to_string());
    field(&mut out, "FORWARDER_START", &event.start.to_string());
    if let Some(closed) = &event.closed {
        field(&mut out, "FORWARDER_END", &closed.end.to_string());
        field(&mut out, "FORWARDER_CAUSE", closed.cause.name());
        for (direction, counts) in [("ORIGINAL", closed.original), ("REPLY", closed.reply)] {
            let name = |what: &str| format!("FORWARDER_{direction}_{what}");
            field(&mut out, &name("PACKETS"), &counts.packets.to_string());
            field(&mut out, &name("BYTES"), &counts.bytes.to_string());
        }
    }
    out
}

/// A value with a newline in it, which a rule's name cannot have, would need its length before it.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}
