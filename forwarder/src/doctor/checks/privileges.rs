//! What `forwarder run` may do if it is started as this is.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::doctor::Case;
use crate::doctor::finding::{Check, Finding};
use crate::doctor::shell;

pub(super) fn summary(case: &Case<'_>) -> String {
    match case.facts.host.missing.is_empty() {
        true => "all that `forwarder run` needs".to_owned(),
        false => "not what `forwarder run` needs".to_owned(),
    }
}

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let host = &case.facts.host;
    let mut found = Vec::new();
    if !host.missing.is_empty() {
        let what = format!("This process lacks {}.", host.missing.join(", "));
        found.push(
            Finding::error(Check::Capabilities, what)
                .why("`forwarder run` needs them, and so does much of what is examined here.")
                .run(format!("sudo forwarder doctor {}", shell(case.file)))
                .advise("A service has them from AmbientCapabilities= in its unit."),
        );
    }
    if !host.bpffs {
        let what = "No BPF file system is mounted at /sys/fs/bpf.";
        let finding = if host.may_mount {
            Finding::note(Check::Bpffs, what).why(
                "Maps and programs are pinned there so that connections survive the daemon. `forwarder run` will mount it, but only in its own mount namespace if its service has one.",
            )
        } else {
            Finding::error(Check::Bpffs, what).why(
                "Maps and programs are pinned there, and `forwarder run` lacks CAP_SYS_ADMIN to mount it.",
            )
        };
        found.push(finding.run("mount -t bpf bpf /sys/fs/bpf"));
    }
    if !host.read_only.is_empty() {
        let what = format!("{} cannot be written.", host.read_only.join(" and "));
        found.push(
            Finding::error(Check::ReadOnlySettings, what)
                .why("Routes are looked up in the name of `lo`, and `forwarder run` switches forwarding on for it.")
                .run("sysctl -w net.ipv4.conf.lo.forwarding=1 net.ipv6.conf.lo.forwarding=1")
                .advise("In a container, do that on the host in the container's network namespace, or mount /proc/sys/net writable."),
        );
    }
    found.extend(control_socket(&case.config.control.socket));
    found
}

/// The directory must be there and writable.
fn control_socket(socket: &Path) -> Option<Finding> {
    let directory = socket.parent()?;
    let shown = directory.display().to_string();
    if !directory.is_dir() {
        let what = format!("The directory {shown} of the control socket does not exist.");
        return Some(
            Finding::error(Check::ControlSocket, what)
                .why("`forwarder run` makes its control socket there and does not start without.")
                .run(format!("mkdir -p {}", shell(&shown))),
        );
    }
    if access(directory, AccessFlags::W_OK).is_err() {
        let what = format!("The directory {shown} of the control socket is not writable.");
        return Some(
            Finding::error(Check::ControlSocket, what)
                .why("`forwarder run` makes its control socket there and does not start without.")
                .advise(
                    "Start it as root, or name a directory of its user's under `[control] socket`.",
                ),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Facts;
    use super::super::super::finding::{Check, Severity};
    use super::super::testing::{CONFIG, found};
    use rstest::rstest;

    #[rstest]
    #[case::capabilities(
        |facts: &mut Facts| facts.host.missing = vec!["CAP_BPF"],
        (Check::Capabilities, Severity::Error, "$ sudo forwarder doctor f.toml")
    )]
    #[case::bpffs_to_come(
        |facts: &mut Facts| facts.host.bpffs = false,
        (Check::Bpffs, Severity::Note, "$ mount -t bpf bpf /sys/fs/bpf")
    )]
    #[case::no_bpffs(
        |facts: &mut Facts| (facts.host.bpffs, facts.host.may_mount) = (false, false),
        (Check::Bpffs, Severity::Error, "$ mount -t bpf bpf /sys/fs/bpf")
    )]
    #[case::container(
        |facts: &mut Facts| facts.host.read_only = vec!["/proc/sys/net/ipv4/conf/lo/forwarding".into()],
        (Check::ReadOnlySettings, Severity::Error, "$ sysctl -w net.ipv4.conf.lo.forwarding=1 net.ipv6.conf.lo.forwarding=1")
    )]
    fn what_is_not_allowed(
        #[case] change: fn(&mut Facts),
        #[case] (check, severity, mend): (Check, Severity, &str),
    ) {
        assert_eq!(found(CONFIG, change), (check, severity, mend.to_owned()));
    }

    #[test]
    fn the_control_socket_needs_a_directory() {
        let config = CONFIG.replace("/tmp/", "/nonexistent/a b/");
        let mend = "$ mkdir -p '/nonexistent/a b'".to_owned();
        assert_eq!(
            found(&config, |_| {}),
            (Check::ControlSocket, Severity::Error, mend)
        );
    }
}
