//! The daemon under test, run as an operator would run it.

mod launcher;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{GatewayConfig, Mode};
use crate::netns::{Namespace, Prefix};
use crate::process::{self, Process};
use launcher::Launcher;

pub use launcher::{binary, see_bpffs};

/// Loading and verifying programs takes a while on a busy machine, and minutes in an emulated one.
const START: Duration = Duration::from_secs(240);

/// How long one CLI command may take.
const COMMAND: Duration = Duration::from_secs(20);

/// A running daemon with a directory, a control socket and a BPF file system of its own, so that any number of them
/// run side by side. Dropping it stops the daemon and detaches what it left in the kernel.
#[derive(Debug)]
pub struct Forwarder {
    binary: PathBuf,
    directory: PathBuf,
    launcher: Launcher,
    daemon: Process,
    keep: bool,
}

impl Forwarder {
    /// Starts the daemon in a namespace and waits until it answers.
    ///
    /// # Errors
    /// If there is no binary, it refuses the configuration, or it does not answer in time.
    pub fn start(namespace: &Namespace, config: &GatewayConfig, mode: Mode) -> Result<Self> {
        let binary = binary()?;
        let directory = Prefix::unique().directory();
        let text = config.to_toml(mode, &socket_in(&directory));
        Self::start_with(namespace, binary, directory, &text)
    }

    /// Starts the daemon with a file as an operator has it, from `examples/` for instance. All that is added is the
    /// control socket, so that several can run at once.
    ///
    /// # Errors
    /// As [`Forwarder::start`].
    pub fn start_file(namespace: &Namespace, text: &str) -> Result<Self> {
        let directory = Prefix::unique().directory();
        let control = control(&socket_in(&directory));
        Self::start_with(
            namespace,
            binary()?,
            directory,
            &format!("{text}\n{control}"),
        )
    }

    /// Starts a given binary with a given file in a directory of the caller's choice; [`socket_in`] tells which
    /// control socket the file has to name.
    ///
    /// # Errors
    /// As [`Forwarder::start`].
    pub fn start_with(
        namespace: &Namespace,
        binary: PathBuf,
        directory: PathBuf,
        config: &str,
    ) -> Result<Self> {
        let bpffs = directory.join("bpf");
        std::fs::create_dir_all(&bpffs).with_context(|| format!("creating {}", bpffs.display()))?;
        mount(
            Some("bpf"),
            &bpffs,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("mounting a BPF file system")?;
        std::fs::write(config_in(&directory), config).context("writing the configuration")?;
        let launcher = Launcher::new(namespace, &bpffs)?;
        let daemon = Process::spawn(&mut launcher.run(&binary, &config_in(&directory)))?;
        let mut it = Self {
            binary,
            directory,
            launcher,
            daemon,
            keep: false,
        };
        it.wait_ready()?;
        Ok(it)
    }

    /// Waits until the daemon answers.
    ///
    /// # Errors
    /// If it does not, or ends.
    pub fn wait_ready(&mut self) -> Result<()> {
        let (binary, directory) = (self.binary.clone(), self.directory.clone());
        self.daemon
            .wait_ready("an answer on the control socket", START, || {
                query(&binary, &directory, "status").is_ok()
            })
    }

    /// Asks the daemon: `flows`, `rules`, `status` or `drops`, with `--json`; arguments may follow after blanks.
    ///
    /// # Errors
    /// If the command fails or what it prints is not JSON.
    pub fn query(&self, listing: &str) -> Result<Value> {
        query(&self.binary, &self.directory, listing).with_context(|| self.daemon.said())
    }

    /// How many packets `drops` counts for a reason.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn dropped(&self, reason: &str) -> Result<u64> {
        let drops = self.query("drops")?;
        let entries = drops
            .as_array()
            .with_context(|| format!("`drops` is not a list: {drops}"))?;
        // A reason that never occurred is not listed.
        Ok(entries
            .iter()
            .filter(|entry| entry["reason"] == reason)
            .filter_map(|entry| entry["packets"].as_u64())
            .sum())
    }

    /// A CLI command for humans, `flows` or `rules` for instance, as it would print.
    ///
    /// # Errors
    /// If the command fails.
    pub fn listing(&self, listing: &str) -> Result<String> {
        process::output(&mut client(&self.binary, &self.directory, listing), COMMAND)
    }

    /// Changes the configuration file and has the daemon read it; what it says of it.
    ///
    /// # Errors
    /// If it refuses the file.
    pub fn reload(&self, edit: impl FnOnce(&str) -> String) -> Result<String> {
        let text = std::fs::read_to_string(self.config()).context("reading the configuration")?;
        std::fs::write(self.config(), edit(&text)).context("writing the configuration")?;
        self.listing("reload")
    }

    /// What the daemon has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.stderr()
    }

    /// Kills the daemon as the out-of-memory killer would.
    ///
    /// # Errors
    /// If it was not running.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.signal(Signal::SIGKILL)?;
        self.daemon.wait(COMMAND).map(drop)
    }

    /// Starts the daemon again after [`Forwarder::kill`], with the same file and the same pins.
    ///
    /// # Errors
    /// As [`Forwarder::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.daemon = Process::spawn(&mut self.launcher.run(&self.binary, &self.config()))?;
        self.wait_ready()
    }

    /// As [`Forwarder::restart`] with more arguments of `run`.
    ///
    /// # Errors
    /// As [`Forwarder::start`].
    pub fn restart_as(&mut self, arguments: &[&str]) -> Result<()> {
        let mut command = self.launcher.run(&self.binary, &self.config());
        self.daemon = Process::spawn(command.args(arguments))?;
        self.wait_ready()
    }

    /// As [`Forwarder::restart`] with environment variables, and without waiting for it to answer.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart_with(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        let mut command = self.launcher.run(&self.binary, &self.config());
        self.daemon = Process::spawn(command.envs(variables.iter().copied()))?;
        Ok(())
    }

    /// The daemon's process.
    pub fn daemon(&mut self) -> &mut Process {
        &mut self.daemon
    }

    /// Ends the daemon as `systemctl stop` would, which leaves traffic running.
    ///
    /// # Errors
    /// If it does not end by itself.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.stop()
    }

    /// Ends the daemon and removes what it left in the kernel.
    ///
    /// # Errors
    /// If either fails.
    pub fn detach(&mut self) -> Result<()> {
        self.stop()?;
        let mut command = self.launcher.command(&self.binary);
        process::output(command.arg("detach"), COMMAND).map(drop)
    }

    /// Leaves the daemon running when the guard is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
        self.daemon.keep();
    }

    /// A command in the gateway's network namespace that sees the daemon's BPF file system.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.launcher.command(program.as_ref())
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        config_in(&self.directory)
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.directory)
    }

    /// The binary that runs.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Everything the daemon can be asked, for the message of a failure.
    #[must_use]
    pub fn report(&self) -> String {
        let listings = ["status", "rules", "flows", "drops"].map(|listing| {
            let text = self
                .listing(listing)
                .unwrap_or_else(|error| format!("{error:#}\n"));
            format!("--- forwarder {listing}\n{text}")
        });
        listings.concat() + &self.daemon.said()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        match self.detach() {
            // The namespace takes the devices with it and the unmount the pins, so nothing stays either way. Without
            // its directory it has been taken down by name already.
            Err(error) if self.directory.exists() => {
                eprintln!("taking the forwarder down: {error:#}")
            }
            _ => {}
        }
        crate::netns::remove_directory(&self.directory);
    }
}

/// The control socket that belongs to a directory.
#[must_use]
pub fn socket_in(directory: &Path) -> PathBuf {
    directory.join("forwarder.sock")
}

/// The part of a file that names [`socket_in`].
pub(super) fn control(socket: &Path) -> String {
    format!("[control]\nsocket = \"{}\"\n", socket.display())
}

fn config_in(directory: &Path) -> PathBuf {
    directory.join("forwarder.toml")
}

fn client(binary: &Path, directory: &Path, listing: &str) -> Command {
    let mut command = Command::new(binary);
    command
        .args(listing.split(' '))
        .arg("--socket")
        .arg(socket_in(directory));
    command
}

fn query(binary: &Path, directory: &Path, listing: &str) -> Result<Value> {
    let mut command = client(binary, directory, listing);
    let text = process::output(command.arg("--json"), COMMAND)?;
    serde_json::from_str(&text)
        .with_context(|| format!("`forwarder {listing} --json` printed:\n{text}"))
}
