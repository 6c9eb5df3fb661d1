//! The gateway's CPU: its NAPI in a thread of its own, on a core of its own.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::Pid;
use tests::netns::Namespace;

/// The kernel thread that does the receiving of one device.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    pid: Pid,
}

impl Thread {
    /// Has the device receive in a thread, on a CPU. It must have NAPI by now: GRO, or an XDP program.
    ///
    /// # Errors
    /// If the device cannot, or the thread does not show up.
    pub fn of(namespace: &Namespace, device: &str, cpu: usize) -> Result<Self> {
        // Rigs call their devices alike, and a thread is known by being new: one after the other.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let start = format!("napi/{device}-");
        let known = named(&start);
        namespace
            .run(|| switch_on(device))?
            .with_context(|| format!("giving {device} a thread"))?;
        let fresh = |pid: &Pid| !known.contains(pid);
        let pid = named(&start).into_iter().find(fresh);
        let pid =
            pid.with_context(|| format!("the kernel has made no NAPI thread for {device}"))?;
        pin(pid, cpu)?;
        prefer(pid);
        Ok(Self { pid })
    }

    /// The thread that takes over softirqs where a CPU has more of them than other threads can wait for.
    ///
    /// # Errors
    /// If there is none, which is no Linux.
    pub fn of_softirqs(cpu: usize) -> Result<Self> {
        // The number ends the name and the line: that of CPU 1 is not that of CPU 10.
        let pid = named(&format!("ksoftirqd/{cpu}\n")).pop();
        let pid = pid.with_context(|| format!("CPU {cpu} has no ksoftirqd"))?;
        Ok(Self { pid })
    }

    /// How long it has run so far, what softirqs took in its time included, and how long it has waited for its CPU
    /// because others had it.
    ///
    /// # Errors
    /// If it is gone, which it is when its device has lost NAPI in between.
    pub fn times(&self) -> Result<[Duration; 2]> {
        let path = format!("/proc/{}/schedstat", self.pid);
        let text = fs::read_to_string(&path).context("the NAPI thread is gone")?;
        let words: Option<Vec<u64>> = text.split_whitespace().map(|it| it.parse().ok()).collect();
        match words.as_deref() {
            Some(&[ran, waited, ..]) => Ok([ran, waited].map(Duration::from_nanos)),
            _ => anyhow::bail!("{path} has {text:?}"),
        }
    }
}

/// What threads on one CPU, which do one thing together, have had of it so far.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long all have run.
    ran: Duration,
    /// How long the first one has waited for its CPU while others had it.
    waited: Duration,
    /// For how much of that the others of these threads had it, at most.
    among: Duration,
}

impl Times {
    /// Of these threads.
    ///
    /// # Errors
    /// As [`Thread::times`].
    pub fn of(threads: &[Thread]) -> Result<Self> {
        let mut all = Self {
            ran: Duration::ZERO,
            waited: Duration::ZERO,
            among: Duration::ZERO,
        };
        for (index, thread) in threads.iter().enumerate() {
            let [ran, waited] = thread.times()?;
            all.ran += ran;
            if index == 0 {
                all.waited = waited;
            } else {
                all.among += ran;
            }
        }
        Ok(all)
    }

    /// How long they have run since then, and how long the first one waited while strangers had the CPU.
    #[must_use]
    pub fn since(self, earlier: Self) -> (Duration, Duration) {
        let ran = self.ran.saturating_sub(earlier.ran);
        let waited = self.waited.saturating_sub(earlier.waited);
        let among = self.among.saturating_sub(earlier.among);
        (ran, waited.saturating_sub(among))
    }
}

/// Puts a thread on a CPU; the calling one for PID 0.
///
/// # Errors
/// If there is no such CPU.
pub fn pin(pid: Pid, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(pid, &set).with_context(|| format!("pinning a thread to CPU {cpu}"))
}

/// Gives a thread priority over others that want its CPU, the calling one for PID 0: the less they get of it the less
/// they show. Where that is not allowed it is done without.
pub fn prefer(pid: Pid) {
    // SAFETY: no memory is involved.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, pid.as_raw().cast_unsigned(), -20) };
}

/// sysfs shows the devices of the namespace it was mounted in, so this takes a mount of its own; the calling thread
/// ends soon.
fn switch_on(device: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    let path = Path::new("/sys/class/net").join(device).join("threaded");
    fs::write(&path, "1").with_context(|| format!("writing {}", path.display()))
}

/// Threads with names that start so, of kernel and users.
fn named(start: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.starts_with(start))
        })
        .map(Pid::from_raw)
        .collect()
}

/// Keeps a thread, and what it starts from now on, off a CPU, if there is another one.
///
/// # Errors
/// If the kernel refuses.
pub fn leave(pid: Pid, cpu: usize) -> Result<()> {
    let mut set = sched_getaffinity(pid)?;
    set.unset(cpu)?;
    let empty = (0..CpuSet::count()).all(|cpu| !set.is_set(cpu).unwrap_or(false));
    if empty {
        return Ok(());
    }
    sched_setaffinity(pid, &set).with_context(|| format!("keeping a thread off CPU {cpu}"))
}
