//! Where the binary is and how it is started.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::netns::{Door, Namespace};

/// Gives the calling thread a mount namespace of its own in which `bpffs` is the BPF file system. Makes only system
/// calls, so it may stand between fork and exec.
///
/// # Errors
/// Those of the system calls.
pub fn see_bpffs(bpffs: &CStr) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(bpffs), "/sys/fs/bpf", none, MsFlags::MS_BIND, none)
}

/// Makes commands that run in the gateway's network namespace and see the private BPF file system at the usual place.
#[derive(Debug)]
pub(super) struct Launcher {
    door: Door,
    bpffs: CString,
}

impl Launcher {
    pub(super) fn new(namespace: &Namespace, bpffs: &Path) -> Result<Self> {
        Ok(Self {
            door: namespace.door(),
            bpffs: CString::new(bpffs.as_os_str().as_bytes())?,
        })
    }

    pub(super) fn run(&self, binary: &Path, config: &Path) -> Command {
        let mut command = self.command(binary);
        command.arg("run").arg("--config").arg(config);
        command
    }

    pub(super) fn command(&self, binary: &Path) -> Command {
        let mut command = self.door.command(binary);
        let bpffs = self.bpffs.clone();
        let see_bpffs = move || Ok(see_bpffs(&bpffs)?);
        // SAFETY: between fork and exec the closure only makes system calls; nix copies short paths to the stack.
        unsafe { command.pre_exec(see_bpffs) };
        command
    }
}

/// The forwarder's binary: `FORWARDER_BIN`, or the newest one built beside the running executable.
///
/// # Errors
/// If there is none; the message says how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FORWARDER_BIN") {
        return Ok(PathBuf::from(path));
    }
    let executable = std::env::current_exe().context("finding the running executable")?;
    let built = executable
        .ancestors()
        .flat_map(|ancestor| {
            ["release", "debug"].map(|profile| ancestor.join(profile).join("forwarder"))
        })
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max();
    let Some((_, path)) = built else {
        bail!(
            "there is no forwarder binary; build it with `cargo xtask build` or name it in FORWARDER_BIN"
        );
    };
    Ok(path)
}
