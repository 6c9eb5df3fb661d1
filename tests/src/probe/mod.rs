//! What only shows on the wire or in a socket's error queue: ICMP errors, MTUs, hops.

mod capture;
mod errors;

pub use capture::{Capture, describe};
pub use errors::{Probe, SocketError};
