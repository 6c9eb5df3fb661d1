//! The kernel's own NAT, as an operator would set it up with iptables.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{GatewayConfig, Rule, Source, Uplink};
use crate::netns::Namespace;
use crate::process;

/// Rules in effect in a namespace. They go with the namespace.
#[derive(Debug)]
pub struct Iptables {
    script: String,
}

impl Iptables {
    /// Loads the rules and switches forwarding on.
    ///
    /// # Errors
    /// If iptables is missing or the kernel refuses a rule.
    pub(super) fn start(namespace: &Namespace, config: &GatewayConfig) -> Result<Self> {
        // A gateway with one interface would tell clients about the "better" way past it.
        for scope in ["all", "default"].iter().chain(&config.interfaces) {
            namespace.sysctl(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
        }
        let script = restore_script(config)?;
        restore(namespace, &script)?;
        for (mark, uplink) in (1..).zip(&config.uplinks) {
            namespace.ip(&format!(
                "route add default via {} dev {} table {}\nrule add fwmark {mark} table {}\n",
                uplink.router,
                uplink.device,
                100 + mark,
                100 + mark,
            ))?;
        }
        namespace.sysctl("net/ipv4/ip_forward", "1")?;
        Ok(Self { script })
    }

    pub(super) fn report(&self) -> String {
        format!("iptables-restore was given:\n{}", self.script)
    }
}

fn restore(namespace: &Namespace, script: &str) -> Result<()> {
    let mut file = tempfile::tempfile().context("creating a file for the rules")?;
    file.write_all(script.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    let mut command = namespace.command("iptables-restore");
    // Without -w two namespaces exclude each other through /run/xtables.lock.
    process::output(
        command.arg("-w").stdin(Stdio::from(file)),
        Duration::from_secs(20),
    )
    .with_context(|| format!("loading rules:\n{script}"))
    .map(drop)
}

fn restore_script(config: &GatewayConfig) -> Result<String> {
    let mut nat = Vec::new();
    let mut mangle = Vec::new();
    for rule in &config.rules {
        nat.extend(rule.nat_lines()?);
        mangle.extend(rule.filter_lines()?);
    }
    mangle.extend(uplink_lines(config));
    Ok(format!(
        "*mangle\n{}\nCOMMIT\n*nat\n{}\nCOMMIT\n",
        mangle.join("\n"),
        nat.join("\n")
    ))
}

/// Remembers by which uplink a connection came, and marks its replies so that policy routing sends them there.
fn uplink_lines(config: &GatewayConfig) -> Vec<String> {
    let mut lines = Vec::new();
    for (mark, Uplink { device, .. }) in (1..).zip(&config.uplinks) {
        lines.push(format!(
            "-A PREROUTING -i {device} -m conntrack --ctstate NEW -j CONNMARK --set-mark {mark}"
        ));
    }
    for device in &config.interfaces {
        if !config.uplinks.is_empty()
            && config.uplinks.iter().all(|uplink| uplink.device != *device)
        {
            lines.push(format!(
                "-A PREROUTING -i {device} -j CONNMARK --restore-mark"
            ));
        }
    }
    lines
}

impl Rule {
    /// What selects the packets of this rule before translation.
    fn matches(&self) -> Result<String> {
        let (address, ports) = split(self.listen)?;
        Ok(format!(
            "-p {} -d {address} --dport {}",
            self.protocol.as_str(),
            ports.replace('-', ":")
        ))
    }

    fn nat_lines(&self) -> Result<Vec<String>> {
        let (_, listen) = split(self.listen)?;
        let (backend, ports) = split(self.to)?;
        // With a base port the n-th port of a range goes to the n-th; without one iptables chooses any.
        let to = match listen.split_once('-') {
            Some((first, _)) => format!("{}/{first}", self.to),
            None => self.to.to_owned(),
        };
        let matches = self.matches()?;
        let mut lines = vec![format!(
            "-A PREROUTING {matches} -j DNAT --to-destination {to}"
        )];
        if self.source == Source::Masquerade {
            let (protocol, ports) = (self.protocol.as_str(), ports.replace('-', ":"));
            lines.push(format!(
                "-A POSTROUTING -p {protocol} -d {backend} --dport {ports} -j MASQUERADE"
            ));
        }
        Ok(lines)
    }

    fn filter_lines(&self) -> Result<Vec<String>> {
        let matches = self.matches()?;
        let drop = |clients: String| format!("-A PREROUTING {clients}{matches} -j DROP");
        let mut lines: Vec<String> = self
            .deny
            .iter()
            .map(|prefix| drop(format!("-s {prefix} ")))
            .collect();
        ensure!(
            self.allow.len() <= 1,
            "one allowed prefix is what a single rule can say"
        );
        lines.extend(
            self.allow
                .iter()
                .map(|prefix| drop(format!("! -s {prefix} "))),
        );
        Ok(lines)
    }
}

fn split(address: &str) -> Result<(&str, &str)> {
    address
        .rsplit_once(':')
        .with_context(|| format!("{address} has no port"))
}
