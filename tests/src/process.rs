//! Child processes as guards, and waiting for conditions.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process has to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` is true.
///
/// # Errors
/// If it is not within `limit`; `what` completes the sentence "… did not happen within 5s".
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, limit, || condition().then_some(()))
}

/// Waits until `attempt` returns something, and returns that.
///
/// # Errors
/// As [`wait_until`].
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = attempt() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what} did not happen within {limit:?}");
        }
        std::thread::sleep(POLL);
    }
}

/// A child process with its output kept; dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: File,
    stderr: File,
    keep: bool,
}

impl Process {
    /// Starts `command`. Its output goes to files without names, so that it never blocks on a full pipe.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let stdout = tempfile::tempfile().context("creating a file for output")?;
        let stderr = tempfile::tempfile().context("creating a file for output")?;
        command
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?);
        let child = command
            .spawn()
            .with_context(|| format!("starting `{name}`; is it installed?"))?;
        Ok(Self {
            name,
            child,
            stdout,
            stderr,
            keep: false,
        })
    }

    /// Its PID.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(
            self.child
                .id()
                .try_into()
                .expect("a PID is positive and fits an i32"),
        )
    }

    /// Leaves it running when the guard is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// What it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// If it is not a child of this process.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // A PID that was waited for may belong to somebody else by now.
        if !self.is_running()? {
            bail!("`{}` has ended already{}", self.name, self.said());
        }
        kill(self.pid(), signal).with_context(|| format!("sending {signal} to `{}`", self.name))
    }

    /// Waits for it to end.
    ///
    /// # Errors
    /// If it does not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.name);
        let status = wait_for(&what, limit, || self.child.try_wait().transpose());
        status
            .with_context(|| self.said())?
            .context("waiting for a child")
    }

    /// Waits until `condition` is true, and fails at once with its output if the process ends before that.
    ///
    /// # Errors
    /// If it ends, or the condition is not true within `limit`.
    pub fn wait_ready(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> bool,
    ) -> Result<()> {
        let outcome = wait_for(what, limit, || match self.child.try_wait() {
            Ok(None) => condition().then_some(Ok(())),
            Ok(Some(status)) => Some(Err(status.to_string())),
            Err(error) => Some(Err(error.to_string())),
        });
        match outcome.with_context(|| self.said())? {
            Ok(()) => Ok(()),
            Err(ended) => bail!(
                "`{}` ended before {what}: {ended}{}",
                self.name,
                self.said()
            ),
        }
    }

    /// Waits until it has written `text` to standard output.
    ///
    /// # Errors
    /// If it ends before, or does not within `limit`.
    pub fn wait_output(&mut self, text: &str, limit: Duration) -> Result<()> {
        let stdout = self.stdout.try_clone().context("looking at output")?;
        self.wait_ready(&format!("{text:?} in its output"), limit, || {
            contents(&stdout).contains(text)
        })
    }

    /// Waits until it has written `text` to standard error.
    ///
    /// # Errors
    /// If it ends before, or does not within `limit`.
    pub fn wait_message(&mut self, text: &str, limit: Duration) -> Result<()> {
        let stderr = self.stderr.try_clone().context("looking at messages")?;
        self.wait_ready(&format!("{text:?} among its messages"), limit, || {
            contents(&stderr).contains(text)
        })
    }

    /// Ends it: SIGTERM, and SIGKILL if that does not help within a few seconds.
    ///
    /// # Errors
    /// If it had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        if !self.is_running()? {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        if self.wait(GRACE).is_ok() {
            return Ok(());
        }
        self.child.kill().context("killing a child")?;
        self.child.wait().context("waiting for a killed child")?;
        bail!(
            "`{}` did not end within {GRACE:?} of SIGTERM{}",
            self.name,
            self.said()
        )
    }

    /// Its output as the end of an error message.
    #[must_use]
    pub fn said(&self) -> String {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        format!(
            "\n`{}` wrote:\n{}{}",
            self.name,
            tail(&stdout),
            tail(&stderr)
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.keep {
            // There is nobody to report to; a test that cares calls stop() itself.
            let _ = self.stop();
        }
    }
}

/// Runs a command to its end and returns what it wrote to standard output.
///
/// # Errors
/// If it is missing, does not end within `limit` (it is killed then), or fails.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let mut process = Process::spawn(command)?;
    let status = process.wait(limit)?;
    if !status.success() {
        bail!("`{}` failed: {status}{}", process.name, process.said());
    }
    Ok(process.stdout())
}

fn contents(file: &File) -> String {
    // The offset is shared with the child; reading must not move it.
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(output could not be read: {error})"),
    }
}

/// The last lines, which is where programs say why they failed.
fn tail(text: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..]
        .iter()
        .map(|line| format!("  {line}\n"))
        .collect()
}
