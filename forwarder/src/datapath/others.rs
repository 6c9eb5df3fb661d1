//! What BPF there is on this host besides ours, and what its kernel can do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use anyhow::Context as _;
use aya::{
    maps::MapType,
    programs::{
        ProgramError, ProgramInfo, ProgramType, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        loaded_links, loaded_programs,
    },
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use nix::sys::statfs::statfs;

use super::{
    Pins,
    attach::Side,
    pins::{BPF_FS_MAGIC, BPFFS},
};

/// The programs that are loaded.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    names: BTreeMap<u32, String>,
    /// Which are attached by links; the others with `ip` or `tc`.
    linked: BTreeMap<u32, u32>,
    /// Which are ours.
    ours: BTreeSet<u32>,
}

impl Loaded {
    /// What the program `id` is called; nothing if it has no name.
    pub fn name(&self, id: u32) -> &str {
        self.names.get(&id).map_or("", String::as_str)
    }

    /// The link by which the program `id` is attached.
    pub fn link(&self, id: u32) -> Option<u32> {
        self.linked.get(&id).copied()
    }

    /// Whether the program `id` is the forwarder's of this network namespace.
    pub fn is_ours(&self, id: u32) -> bool {
        self.ours.contains(&id)
    }
}

/// Lists all programs.
///
/// # Errors
/// The kernel does not let this process see them.
pub fn loaded() -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    for program in loaded_programs() {
        match program {
            Ok(program) => {
                let name: String = String::from_utf8_lossy(program.name())
                    .chars()
                    .filter(|one| !one.is_control())
                    .collect();
                loaded.names.insert(program.id(), name);
            }
            Err(error) => refused(error)?,
        }
    }
    // One that goes away meanwhile is none.
    for link in loaded_links().flatten() {
        loaded.linked.insert(link.program_id(), link.id());
    }
    loaded.ours = ours();
    Ok(loaded)
}

/// A program that went away while it was looked at is no error.
fn refused(error: ProgramError) -> anyhow::Result<()> {
    match &error {
        ProgramError::SyscallError(call) if call.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        ProgramError::SyscallError(call)
            if call.io_error.kind() == io::ErrorKind::PermissionDenied =>
        {
            anyhow::bail!("needs CAP_SYS_ADMIN; run this with sudo")
        }
        _ => Err(error).context("cannot list BPF programs"),
    }
}

/// Whether the program `id` is the forwarder's of this network namespace. Unlike [`loaded`] it needs no capability.
pub fn is_ours(id: u32) -> bool {
    ours().contains(&id)
}

/// The programs behind the links that are pinned for this network namespace.
fn ours() -> BTreeSet<u32> {
    let Ok(pins) = Pins::here() else {
        return BTreeSet::new();
    };
    let program = |(path, hook, _): (std::path::PathBuf, String, u32)| {
        if Side::of_legacy(&hook).is_some() {
            return ProgramInfo::from_pin(path).ok().map(|info| info.id());
        }
        let link = FdLink::from(PinnedLink::from_pin(path).ok()?);
        link.info().ok().map(|info| info.program_id())
    };
    let links = pins.links().unwrap_or_default();
    links.into_iter().filter_map(program).collect()
}

/// Programs on the TC ingress of `device`, in the order in which packets meet them; only those that are links.
///
/// # Errors
/// The kernel has no TC links (before 6.6) or does not tell.
pub fn on_ingress(device: &str) -> anyhow::Result<Vec<u32>> {
    let (_, programs) = SchedClassifier::query_tcx(device, TcAttachType::Ingress)?;
    Ok(programs.iter().map(ProgramInfo::id).collect())
}

/// Whether TC programs can be links; `None` if the kernel does not tell this process.
pub fn has_tcx() -> Option<bool> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Some(true),
        Err(ProgramError::SyscallError(call)) => {
            (call.io_error.raw_os_error() == Some(libc::EINVAL)).then_some(false)
        }
        Err(_) => None,
    }
}

/// What the programs need and the kernel was built without.
///
/// # Errors
/// The kernel cannot be asked.
pub fn unsupported() -> anyhow::Result<Vec<&'static str>> {
    let (xdp, tc) = (ProgramType::Xdp, ProgramType::SchedClassifier);
    let mut lacks = Vec::new();
    for (name, program) in [("XDP programs", xdp), ("TC programs", tc)] {
        if !is_program_supported(program)? {
            lacks.push(name);
        }
    }
    for (name, map) in [
        ("hash maps that are LRU", MapType::LruHash),
        ("LPM tries", MapType::LpmTrie),
        ("ring buffers", MapType::RingBuf),
    ] {
        if !is_map_supported(map)? {
            lacks.push(name);
        }
    }
    if !lacks.is_empty() {
        return Ok(lacks);
    }
    for (name, program, helper) in [
        ("bpf_fib_lookup", xdp, BpfHelper::BPF_FUNC_fib_lookup),
        ("bpf_jiffies64", xdp, BpfHelper::BPF_FUNC_jiffies64),
        ("bpf_redirect_neigh", tc, BpfHelper::BPF_FUNC_redirect_neigh),
    ] {
        if !is_helper_supported(program, helper)? {
            lacks.push(name);
        }
    }
    Ok(lacks)
}

/// Whether bpffs is where the pins go.
pub fn bpffs_is_mounted() -> bool {
    statfs(BPFFS).is_ok_and(|facts| facts.filesystem_type().0 as u64 == BPF_FS_MAGIC)
}

/// Whether something is pinned for this network namespace.
pub fn pinned() -> bool {
    Pins::here().is_ok_and(|pins| pins.exist())
}
