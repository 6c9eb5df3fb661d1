//! The capabilities that `run` and `detach` need; `run` gives up all others once it has started.

use std::{fs, io};

/// include/uapi/linux/capability.h, with what each is for.
const NEEDED: [(u32, &str, &str); 3] = [
    (12, "CAP_NET_ADMIN", "to attach programs to interfaces"),
    (38, "CAP_PERFMON", "to load programs that read packets"),
    (39, "CAP_BPF", "to create maps and load programs"),
];
/// Has the powers of CAP_BPF and CAP_PERFMON as well.
const CAP_SYS_ADMIN: u32 = 21;

/// Checks that this process may do what the daemon must do.
///
/// # Errors
/// One sentence that names the missing capabilities.
pub(super) fn require() -> anyhow::Result<()> {
    let missing = missing_now();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing
        .iter()
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    anyhow::bail!(
        "missing capabilities: {}; run this with sudo, or give the service these capabilities",
        names.join(", ")
    )
}

/// The capabilities that `run` needs and this process lacks, and what for.
pub fn missing_now() -> Vec<(&'static str, &'static str)> {
    missing(effective())
}

/// Gives up every capability but those in [`NEEDED`], for this thread and those it starts from now on.
///
/// # Errors
/// The kernel refuses, which it never does for giving up.
pub(super) fn drop_others() -> io::Result<()> {
    let kept = NEEDED
        .iter()
        .fold(0_u64, |mask, (bit, _, _)| mask | 1 << bit)
        & effective();
    let header = Header {
        version: LINUX_CAPABILITY_VERSION_3,
        pid: 0,
    };
    let word = |mask: u64| Word {
        effective: mask as u32,
        permitted: mask as u32,
        inheritable: 0,
    };
    let data = [word(kept), word(kept >> 32)];
    // SAFETY: both pointers lead to live values laid out as version 3 of the interface wants them.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// include/uapi/linux/capability.h: 64 capabilities, in two words.
const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Word {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing(effective: u64) -> Vec<(&'static str, &'static str)> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    NEEDED
        .into_iter()
        .filter(|(bit, _, _)| !has(*bit) && (*bit < 38 || !has(CAP_SYS_ADMIN)))
        .map(|(_, name, why)| (name, why))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_the_newer_ones_only() {
        assert_eq!(missing(u64::MAX), []);
        let names = |caps: u64| missing(caps).iter().map(|one| one.0).collect::<Vec<_>>();
        assert_eq!(names(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(names(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(names(1 << 12 | 1 << 39), ["CAP_PERFMON"]);
    }
}
