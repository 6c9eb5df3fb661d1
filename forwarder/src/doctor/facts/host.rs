//! Kernel, privileges, and settings of the whole host.

use std::fs;
use std::path::Path;

use nix::unistd::{AccessFlags, access};
use procfs::process::{LimitValue, Process};

use super::Gaps;
use crate::daemon::missing_capabilities;
use crate::datapath::others;
use crate::doctor::finding::Group;
use crate::network;

/// What the host is like.
#[derive(Clone, Debug, Default)]
pub(in crate::doctor) struct Host {
    /// `6.1.0-56-amd64`.
    pub release: String,
    /// Major and minor number.
    pub version: (u16, u16),
    /// CPUs that run.
    pub cpus: u32,
    /// Bytes of a page.
    pub page: u64,
    /// Capabilities that `run` needs and this process lacks.
    pub missing: Vec<&'static str>,
    /// What the kernel was built without, if it could be asked.
    pub lacks: Vec<&'static str>,
    /// Whether TC programs can be links, if it could be asked.
    pub tcx: Option<bool>,
    /// Whether the kernel says which devices take redirected frames.
    pub xdp_features: bool,
    /// Whether there are types to go by for tracing.
    pub btf: bool,
    /// `net.core.bpf_jit_enable`, if it can be read.
    pub jit: Option<u32>,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// Whether bpffs is mounted in its place.
    pub bpffs: bool,
    /// Whether this process could mount it.
    pub may_mount: bool,
    /// Settings that are to be changed and cannot.
    pub read_only: Vec<String>,
    /// Bytes that may be locked into memory; none if there is no limit.
    pub memlock: Option<u64>,
    /// Whether this process may raise that limit.
    pub may_raise: bool,
    /// Ports that the host gives its own connections.
    pub local_ports: (u16, u16),
    /// Ports that it leaves out, in the kernel's notation.
    pub reserved_ports: Vec<(u16, u16)>,
}

/// include/uapi/linux/capability.h
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

pub(super) fn read(gaps: &mut Gaps) -> Host {
    let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let missing: Vec<_> = missing_capabilities()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let status = Process::myself().and_then(|this| this.status());
    let has = |bit: u32| {
        status
            .as_ref()
            .is_ok_and(|status| status.capeff & (1 << bit) != 0)
    };
    let mut host = Host {
        version: version(&release).unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        page: procfs::page_size(),
        xdp_features: network::tells_xdp_features(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        jit: text("/proc/sys/net/core/bpf_jit_enable").and_then(|text| text.parse().ok()),
        lockdown: text("/sys/kernel/security/lockdown").and_then(|text| chosen(&text)),
        bpffs: others::bpffs_is_mounted(),
        may_mount: has(CAP_SYS_ADMIN),
        may_raise: has(CAP_SYS_RESOURCE),
        memlock: locked_memory(),
        read_only: read_only(),
        local_ports: network::local_ports(),
        reserved_ports: reserved_ports(),
        release,
        missing,
        ..Host::default()
    };
    if host.missing.is_empty() {
        match others::unsupported() {
            Ok(lacks) => host.lacks = lacks,
            Err(error) => gaps.push(
                Group::Kernel,
                "what the kernel's BPF can do",
                format!("{error:#}"),
            ),
        }
        host.tcx = others::has_tcx();
    } else {
        let why = format!("needs {}; run this with sudo", host.missing.join(" and "));
        gaps.push(Group::Kernel, "what the kernel's BPF can do", why);
    }
    host
}

/// A file of one line, without its end.
pub(super) fn text(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim_end().to_owned())
}

fn version(release: &str) -> Option<(u16, u16)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

fn locked_memory() -> Option<u64> {
    let limits = Process::myself().and_then(|this| this.limits()).ok()?;
    match limits.max_locked_memory.soft_limit {
        LimitValue::Value(bytes) => Some(bytes),
        LimitValue::Unlimited => None,
    }
}

/// The daemon switches forwarding on for `lo`; in a container /proc/sys is often mounted read-only.
fn read_only() -> Vec<String> {
    ["ipv4", "ipv6"]
        .map(|family| format!("/proc/sys/net/{family}/conf/lo/forwarding"))
        .into_iter()
        .filter(|path| text(path).is_some_and(|value| value == "0"))
        .filter(|path| access(path.as_str(), AccessFlags::W_OK).is_err())
        .collect()
}

fn reserved_ports() -> Vec<(u16, u16)> {
    let text = text("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    ports(&text)
}

/// `8080,9148-9150`.
fn ports(text: &str) -> Vec<(u16, u16)> {
    text.split(',')
        .filter_map(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    #[rstest]
    #[case("6.1.0-56-amd64", Some((6, 1)))]
    #[case("5.10.0", Some((5, 10)))]
    #[case("7.2-rc1", Some((7, 2)))]
    #[case("", None)]
    fn versions(#[case] release: &str, #[case] expected: Option<(u16, u16)>) {
        assert_eq!(super::version(release), expected);
    }

    #[test]
    fn the_word_in_brackets() {
        let text = "none [integrity] confidentiality";
        assert_eq!(super::chosen(text).as_deref(), Some("integrity"));
        assert_eq!(super::chosen("none"), None);
    }

    #[test]
    fn reserved_ports_are_numbers_and_ranges() {
        assert_eq!(super::ports("8080,9148-9150"), [(8080, 8080), (9148, 9150)]);
        assert!(super::ports("").is_empty());
    }
}
