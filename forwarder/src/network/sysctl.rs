//! The few kernel settings that matter here.

use std::{fs, io};

/// Linux' default for `net.ipv4.ip_local_port_range`.
const DEFAULT_LOCAL_PORTS: (u16, u16) = (32768, 60999);

const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const LOOPBACK_FORWARDING: &str = "/proc/sys/net/ipv4/conf/lo/forwarding";

/// First and last port that the host gives its own connections.
pub fn local_ports() -> (u16, u16) {
    let text = fs::read_to_string(LOCAL_PORTS).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => (first, last),
        _ => DEFAULT_LOCAL_PORTS,
    }
}

/// Switches forwarding on or off for `lo`, in whose name the programs ask for routes where it is off on the
/// ingress device. Nothing arrives on `lo` for other hosts, so the host does not become a router by it.
/// Returns whether it was changed.
///
/// # Errors
/// The setting cannot be read or written.
pub fn set_loopback_forwarding(on: bool) -> io::Result<bool> {
    let wanted = if on { "1" } else { "0" };
    if fs::read_to_string(LOOPBACK_FORWARDING)?.trim() == wanted {
        return Ok(false);
    }
    fs::write(LOOPBACK_FORWARDING, wanted)?;
    Ok(true)
}
