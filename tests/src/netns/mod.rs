//! Network namespaces as guards.
//!
//! A process enters one with setns(2) on the network namespace alone, never through `ip netns exec`: that remounts
//! /sys, and with it hides /sys/fs/bpf from the daemon under test.

mod counters;
mod ethtool;
mod ip;
mod link;
mod raw;
mod sweep;
mod switch;
mod xdp;

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

use ip::run_ip;

pub use counters::{Counters, DeviceCounters};
pub use ethtool::Feature;
pub use link::{End, Reception, Wire, mac, mac_bytes, veth};
pub(crate) use sweep::remove_directory;
pub use sweep::{remove_named, sweep};
pub use switch::Switch;

/// Where iproute2 keeps the names; `ip netns` sees what is made here.
const DIRECTORY: &str = "/run/netns";

/// Where the directories of [`Prefix::directory`] are.
const RUN: &str = "/run";

/// What the names of one set of namespaces start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// A prefix nobody else has: `fw-<pid>-<n>`. The PID in it is how a later run recognises leftovers.
    #[must_use]
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("fw-{}-{number}", std::process::id()))
    }

    /// A prefix that outlives the process, for what is left standing on purpose.
    #[must_use]
    pub fn fixed(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The prefix itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A directory of this prefix's own; not created. It lies where only root can put anything, as its name can be
    /// foretold.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        Path::new(RUN).join(&self.0)
    }
}

/// The way into a namespace. It keeps the namespace alive, but not its name.
#[derive(Clone, Debug)]
pub struct Door(Arc<File>);

impl Door {
    /// Runs a closure inside, on a thread of its own. Sockets made there stay there and can be used from anywhere.
    ///
    /// # Errors
    /// If the thread cannot enter the namespace.
    ///
    /// # Panics
    /// If the closure does.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> nix::Result<T> {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET)?;
            Ok(body())
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A command that will run inside. Standard input is closed; the rest is the caller's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        let handle = Arc::clone(&self.0);
        let enter = move || Ok(setns(&handle, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }
}

/// A network namespace; dropping it kills the processes in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    door: Door,
    keep: bool,
}

/// Fails with one sentence for a user who is not root.
///
/// # Errors
/// If the effective user is not root.
pub fn require_root() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes network namespaces and must be run as root (try again with sudo)"
    );
    Ok(())
}

impl Namespace {
    /// Creates `PREFIX-ROLE` with the loopback device up and IPv6 silent until an IPv6 address is added.
    ///
    /// # Errors
    /// If the user is not root, the name is taken, or `ip` is missing.
    pub fn create(prefix: &Prefix, role: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        require_root()?;
        SWEPT.call_once(sweep);
        let name = format!("{}-{role}", prefix.as_str());
        run_ip(Command::new("ip").args(["netns", "add", &name]), "")?;
        let path = Path::new(DIRECTORY).join(&name);
        let handle = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let namespace = Self {
            name,
            door: Door(Arc::new(handle)),
            keep: false,
        };
        // Router solicitations, duplicate address detection and repeated multicast reports would be counted as traffic.
        for scope in ["all", "default"] {
            for (key, value) in [
                ("accept_dad", "0"),
                ("router_solicitations", "0"),
                ("mldv2_unsolicited_report_interval", "3600000"),
                ("disable_ipv6", "1"),
            ] {
                namespace.sysctl(&format!("net/ipv6/conf/{scope}/{key}"), value)?;
            }
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name `ip netns` shows.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves namespace and processes standing when the guard is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Runs a closure inside, on a thread of its own. Sockets made there stay there and can be used from anywhere.
    ///
    /// # Errors
    /// If the thread cannot enter the namespace.
    ///
    /// # Panics
    /// If the closure does.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> Result<T> {
        let entered = self.door.run(body);
        entered.with_context(|| format!("entering namespace {}", self.name))
    }

    /// A command that will run inside. Standard input is closed; the rest is the caller's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.door.command(program)
    }

    /// The way in, to keep beside the guard.
    #[must_use]
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Sets a value below /proc/sys, `net/ipv4/ip_forward` for example.
    ///
    /// # Errors
    /// If there is no such setting, or it refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| std::fs::write(&path, value))?
            .with_context(|| format!("setting {key} to {value} in namespace {}", self.name))
    }

    /// Reads a value below /proc/sys.
    ///
    /// # Errors
    /// If there is no such setting.
    pub fn sysctl_value(&self, key: &str) -> Result<String> {
        let path = Path::new("/proc/sys").join(key);
        self.run(|| std::fs::read_to_string(&path))?
            .with_context(|| format!("reading {key} in namespace {}", self.name))
    }

    /// The protocol counters of this namespace's stack.
    ///
    /// # Errors
    /// If /proc cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        self.run(Counters::read)?
    }

    /// The counters of one device.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn device_counters(&self, device: &str) -> Result<DeviceCounters> {
        self.run(|| DeviceCounters::read(device))?
    }

    /// Sends Ethernet frames out of a device exactly as they are, however malformed.
    ///
    /// # Errors
    /// If there is no such device or it refuses a frame.
    pub fn send_frames(&self, device: &str, frames: &[Vec<u8>]) -> Result<()> {
        self.run(|| raw::send(device, frames))?
    }

    /// Lets a veth device receive whatever XDP on its peer sends, as a real card does; see [`Reception::Program`].
    ///
    /// # Errors
    /// If there is no such device, or it has a program already.
    pub fn pass_xdp(&self, device: &str) -> Result<()> {
        self.run(|| xdp::pass(device))?
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// As [`Namespace::pass_xdp`] by a link, which goes when the descriptor is closed.
    ///
    /// # Errors
    /// As [`Namespace::pass_xdp`].
    pub fn pass_xdp_by_link(&self, device: &str) -> Result<OwnedFd> {
        self.run(|| xdp::pass_by_link(device))?
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Puts a TC program in front of all that are on a device's ingress, as a link (Linux 6.6). It lets every packet go
    /// on, and stays until the descriptor is closed.
    ///
    /// # Errors
    /// If there is no such device, or the kernel has no TC links.
    pub fn first_on_ingress(&self, device: &str) -> Result<OwnedFd> {
        self.run(|| xdp::first_on_ingress(device))?
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Switches an offload of a device on or off.
    ///
    /// # Errors
    /// If there is no such device or it cannot.
    pub fn set_feature(&self, device: &str, feature: Feature, on: bool) -> Result<()> {
        self.run(|| ethtool::set(device, feature, on))?
            .with_context(|| format!("{feature:?} of {device} in namespace {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.keep {
            sweep::remove(&self.name);
        }
    }
}
