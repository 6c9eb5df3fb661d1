//! Addresses, routes and rules, by iproute2.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::Namespace;

impl Namespace {
    /// Runs lines of `ip` commands (without the leading `ip`) and returns what they print.
    ///
    /// # Errors
    /// If one fails; the message has the command and what `ip` said.
    pub fn ip(&self, lines: &str) -> Result<String> {
        run_ip(self.command("ip").args(["-batch", "-"]), lines)
            .with_context(|| format!("in namespace {}:\n{lines}", self.name))
    }

    /// The same with `ip -6`, for what names no address by which `ip` could tell the family.
    ///
    /// # Errors
    /// As [`Namespace::ip`].
    pub fn ip6(&self, lines: &str) -> Result<String> {
        run_ip(self.command("ip").args(["-6", "-batch", "-"]), lines)
            .with_context(|| format!("in namespace {}:\n{lines}", self.name))
    }

    /// Makes a router of it for both families, or a host again.
    ///
    /// # Errors
    /// If the settings cannot be written.
    pub fn forward(&self, on: bool) -> Result<()> {
        let value = if on { "1" } else { "0" };
        self.sysctl("net/ipv4/ip_forward", value)?;
        self.sysctl("net/ipv6/conf/all/forwarding", value)
    }

    /// Adds the default routes, of IPv4 and of IPv6, by the routers given.
    ///
    /// # Errors
    /// If a router is not on the link.
    pub fn default_routes(&self, routers: [&str; 2]) -> Result<()> {
        let lines = routers.map(|router| format!("route add default via {router}\n"));
        self.ip(&lines.concat()).map(drop)
    }

    /// Forgets every neighbour that was learned, so that the next packet has to ask first.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn flush_neighbours(&self) -> Result<()> {
        self.ip("neigh flush all").map(drop)
    }
}

/// Runs `ip`, feeding it `input`, and says what to install if it is not there.
pub(super) fn run_ip(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running `ip`; is iproute2 installed?")?;
    let mut stdin = child.stdin.take().context("`ip` has no standard input")?;
    stdin
        .write_all(input.as_bytes())
        .context("writing to `ip`")?;
    drop(stdin);
    let output = child.wait_with_output().context("waiting for `ip`")?;
    if !output.status.success() {
        bail!(
            "`ip` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
