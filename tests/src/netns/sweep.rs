//! Removal of namespaces: the ordinary way, and of what killed runs left behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DIRECTORY, RUN};

/// Removes namespaces, mounts and directories whose names carry the PID of a process that is gone.
pub fn sweep() {
    let dead = |name: &str| {
        owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    for name in names(Path::new(DIRECTORY)).filter(|name| dead(name)) {
        remove(&name);
    }
    for name in names(Path::new(RUN)).filter(|name| dead(name)) {
        remove_directory(&Path::new(RUN).join(name));
    }
}

/// Removes every namespace whose name starts with `PREFIX-`, and the prefix's directory. Returns the names.
pub fn remove_named(prefix: &super::Prefix) -> Vec<String> {
    let start = format!("{}-", prefix.as_str());
    let found: Vec<String> = names(Path::new(DIRECTORY))
        .filter(|name| name.starts_with(&start))
        .collect();
    for name in &found {
        remove(name);
    }
    remove_directory(&prefix.directory());
    found
}

/// The PID in `fw-<pid>-<n>…`.
fn owner(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix("fw-")?.split('-');
    let pid = parts.next()?.parse().ok()?;
    // The counter tells our names from others that happen to begin alike.
    parts.next()?.parse::<u32>().ok()?;
    Some(pid)
}

fn names(directory: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Kills what runs in a namespace and removes its name. Errors are not reported: this runs in destructors, and what
/// could not be removed the next sweep tries again.
pub(super) fn remove(name: &str) {
    let path = Path::new(DIRECTORY).join(name);
    if let Ok(namespace) = fs::metadata(&path) {
        // Servers may be forking while they are killed, so look again until nobody is left.
        for _ in 0..10 {
            let members = members(namespace.dev(), namespace.ino());
            if members.is_empty() {
                break;
            }
            for pid in members {
                // The process may have ended by itself meanwhile.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
    let _ = Command::new("ip")
        .args(["netns", "del", name])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Processes, this one excepted, whose network namespace is the given one.
fn members(device: u64, inode: u64) -> Vec<Pid> {
    let own = Pid::this();
    names(Path::new("/proc"))
        .filter_map(|name| name.parse().ok().map(Pid::from_raw))
        .filter(|&pid| pid != own)
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|it| it.dev() == device && it.ino() == inode)
        })
        .collect()
}

/// Removes a directory and what is mounted below it.
pub(crate) fn remove_directory(directory: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(Path::new);
    // Later mounts may lie on earlier ones.
    let mut below: Vec<&Path> = points
        .filter(|point| point.starts_with(directory))
        .collect();
    below.reverse();
    for point in below {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(directory);
}
