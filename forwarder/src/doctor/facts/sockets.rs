//! Sockets of this host that wait for somebody, and whose they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};

use super::Gaps;
use crate::config::Protocol;
use crate::doctor::finding::Group;

/// A socket that takes what comes from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Socket {
    pub protocol: Protocol,
    pub address: SocketAddr,
    /// Whose it is, if this process may see that.
    pub owner: Option<Owner>,
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Owner {
    pub pid: i32,
    pub name: String,
    /// Its systemd service, if it is one.
    pub unit: Option<String>,
}

pub(super) fn read(gaps: &mut Gaps) -> Vec<Socket> {
    use procfs::net;
    let mut found = Vec::new();
    for (entries, what) in [
        (net::tcp(), "TCP sockets"),
        (net::tcp6(), "TCP sockets of IPv6"),
    ] {
        let entries = gaps.take(Group::Ports, what, entries).unwrap_or_default();
        let waiting = entries
            .into_iter()
            .filter(|one| one.state == TcpState::Listen);
        found.extend(waiting.map(|one| (Protocol::Tcp, one.local_address, one.inode)));
    }
    for (entries, what) in [
        (net::udp(), "UDP sockets"),
        (net::udp6(), "UDP sockets of IPv6"),
    ] {
        let entries = gaps.take(Group::Ports, what, entries).unwrap_or_default();
        // A connected one takes packets from its peer only.
        let waiting = entries
            .into_iter()
            .filter(|one| one.remote_address.port() == 0);
        found.extend(waiting.map(|one| (Protocol::Udp, one.local_address, one.inode)));
    }
    let owners = if found.is_empty() {
        BTreeMap::new()
    } else {
        owners()
    };
    let socket = |(protocol, address, inode)| Socket {
        protocol,
        address,
        owner: owners.get(&inode).cloned(),
    };
    found.into_iter().map(socket).collect()
}

/// Sockets by inode, with the process that has them open. Other users' are seen by root only.
fn owners() -> BTreeMap<u64, Owner> {
    let mut owners = BTreeMap::new();
    for process in all_processes().into_iter().flatten().flatten() {
        let Ok(descriptors) = process.fd() else {
            continue;
        };
        let inodes = descriptors.flatten().filter_map(|one| match one.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        });
        let inodes: Vec<u64> = inodes.collect();
        if !inodes.is_empty() {
            let owner = owner(&process);
            owners.extend(inodes.into_iter().map(|inode| (inode, owner.clone())));
        }
    }
    owners
}

fn owner(process: &Process) -> Owner {
    let name = process.stat().map(|stat| stat.comm).unwrap_or_default();
    let groups = process.cgroups().map(|groups| groups.0).unwrap_or_default();
    Owner {
        pid: process.pid(),
        name: name.chars().filter(|one| !one.is_control()).collect(),
        unit: groups.iter().find_map(|group| unit(&group.pathname)),
    }
}

/// `dovecot.service` of `/system.slice/dovecot.service`.
fn unit(group: &str) -> Option<String> {
    let mut parts = group.split('/').filter(|part| !part.is_empty());
    (parts.next()? == "system.slice").then_some(())?;
    let unit = parts.find(|part| part.ends_with(".service"))?;
    Some(unit.to_owned())
}

/// Whether a forwarder has claimed this network namespace: see `daemon/start.rs`.
pub(super) fn forwarder_runs() -> bool {
    let claim = Path::new("@forwarder");
    let sockets = procfs::net::unix().unwrap_or_default();
    sockets.iter().any(|one| one.path.as_deref() == Some(claim))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case("/system.slice/dovecot.service", Some("dovecot.service"))]
    #[case(
        "/system.slice/system-getty.slice/getty@tty1.service",
        Some("getty@tty1.service")
    )]
    #[case("/user.slice/user-0.slice/session-1.scope", None)]
    #[case("/", None)]
    fn units(#[case] group: &str, #[case] expected: Option<&str>) {
        assert_eq!(super::unit(group).as_deref(), expected);
    }
}
