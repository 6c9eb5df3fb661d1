//! The few kernel settings that matter here.

use std::{fs, io};

use forwarder_common::settings::{FORWARDING_V4, FORWARDING_V6};

/// Linux' default for `net.ipv4.ip_local_port_range`.
const DEFAULT_LOCAL_PORTS: (u16, u16) = (32768, 60999);

const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const LOOPBACK_FORWARDING: [(u32, &str); 2] = [
    (FORWARDING_V4, "/proc/sys/net/ipv4/conf/lo/forwarding"),
    (FORWARDING_V6, "/proc/sys/net/ipv6/conf/lo/forwarding"),
];

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
/// `families` are those to switch, of [`FORWARDING_V4`] and [`FORWARDING_V6`]; returns those that were changed.
///
/// # Errors
/// A setting cannot be read or written.
pub fn set_loopback_forwarding(on: bool, families: u32) -> io::Result<u32> {
    let wanted = if on { "1" } else { "0" };
    let mut changed = 0;
    for (family, path) in LOOPBACK_FORWARDING {
        if families & family == 0 {
            continue;
        }
        match fs::read_to_string(path) {
            Ok(now) if now.trim() == wanted => {}
            Ok(_) => {
                fs::write(path, wanted)?;
                changed |= family;
            }
            // A kernel without IPv6 forwards none.
            Err(error) if error.kind() == io::ErrorKind::NotFound && family == FORWARDING_V6 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}
