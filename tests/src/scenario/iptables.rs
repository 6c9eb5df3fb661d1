//! The kernel's own NAT, as an operator would set it up with iptables and ip6tables.

mod script;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Family, GatewayConfig};
use crate::netns::Namespace;
use crate::process;

/// Rules in netfilter's own words.
#[derive(Clone, Debug)]
pub enum Netfilter {
    /// For `iptables-restore` and `ip6tables-restore`.
    Iptables([String; 2]),
    /// For `nft -f`.
    Nft(String),
}

/// Rules in effect in a namespace. They go with the namespace.
#[derive(Debug)]
pub struct Iptables {
    scripts: [String; 2],
}

impl Iptables {
    /// Loads the rules and switches forwarding on.
    ///
    /// # Errors
    /// If iptables is missing or the kernel refuses a rule.
    pub(super) fn start(namespace: &Namespace, config: &GatewayConfig) -> Result<Self> {
        // A gateway with one interface would tell clients about the "better" way past it. IPv6 has no such switch, and
        // hosts there are told to believe no redirect (RFC 4861 section 8).
        for scope in ["all", "default"].iter().chain(&config.interfaces) {
            namespace.sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
        }
        let mut scripts = [String::new(), String::new()];
        for (script, family) in scripts.iter_mut().zip(Family::ALL) {
            *script = script::restore(config, family)?;
            restore(namespace, family, script)?;
        }
        route_by_mark(namespace, config)?;
        namespace.forward(true)?;
        Ok(Self { scripts })
    }

    /// Loads rules as an operator has them, with iptables or nft, and switches forwarding on.
    ///
    /// # Errors
    /// If a tool is missing or refuses a rule.
    pub(super) fn load(namespace: &Namespace, rules: &Netfilter) -> Result<Self> {
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
        }
        let scripts = match rules {
            Netfilter::Iptables(scripts) => {
                for (script, family) in scripts.iter().zip(Family::ALL) {
                    restore(namespace, family, script)?;
                }
                scripts.clone()
            }
            Netfilter::Nft(script) => {
                feed(namespace.command("nft").args(["-f", "-"]), script)?;
                [script.clone(), String::new()]
            }
        };
        namespace.forward(true)?;
        Ok(Self { scripts })
    }

    pub(super) fn report(&self) -> String {
        let [v4, v6] = &self.scripts;
        format!("iptables-restore was given:\n{v4}\nand ip6tables-restore:\n{v6}")
    }
}

/// One table for each uplink, chosen by the mark that the rules restore.
fn route_by_mark(namespace: &Namespace, config: &GatewayConfig) -> Result<()> {
    for (mark, uplink) in (1..).zip(&config.uplinks) {
        for (family, router) in Family::ALL.into_iter().zip(uplink.routers) {
            let table = 100 + mark;
            let lines = format!(
                "route add default via {router} dev {} table {table}\n\
                 rule add fwmark {mark} table {table}\n",
                uplink.device,
            );
            match family {
                Family::V4 => namespace.ip(&lines)?,
                Family::V6 => namespace.ip6(&lines)?,
            };
        }
    }
    Ok(())
}

fn restore(namespace: &Namespace, family: Family, script: &str) -> Result<()> {
    let mut command = namespace.command(family.pick("iptables-restore", "ip6tables-restore"));
    // Without -w two namespaces exclude each other through /run/xtables.lock.
    feed(command.arg("-w"), script)
}

/// Runs a command with `script` on its standard input.
fn feed(command: &mut Command, script: &str) -> Result<()> {
    let mut file = tempfile::tempfile().context("creating a file for the rules")?;
    file.write_all(script.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    process::output(command.stdin(Stdio::from(file)), Duration::from_secs(20))
        .with_context(|| format!("loading rules:\n{script}"))
        .map(drop)
}
