//! The hosts of the demonstration, and who runs on them.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    netns::{Counters, Prefix, Wire},
    process::Process,
    responder::{Transcript, connect},
    scenario::{Forwarder, GatewayConfig, Mode, Rule, S0, socket_in},
};

use super::{POP3, pop3_client};

/// What the POP3 server prints when it can be connected to.
pub const LISTENING: &str = "listening";

/// The one rule: S0 as the configuration reference has it.
const RULE: Rule = Rule::masquerade("pop3", "203.0.113.5:110", "195.228.245.1:110");

/// Declared in the order in which it has to be taken down.
pub struct Stage {
    /// The daemon on the gateway.
    pub forwarder: Forwarder,
    mailbox: Process,
    /// The hosts.
    pub hosts: S0,
}

impl Stage {
    /// Makes the hosts and starts the servers.
    pub fn set(prefix: &Prefix, binary: PathBuf) -> Result<Self> {
        let directory = prefix.directory();
        ensure!(
            !directory.exists(),
            "a demonstration is still standing; remove it with `cargo xtask demo --clean`"
        );
        let hosts = S0::build(prefix, Wire::CABLE)?;
        hosts.gateway.sysctl("net/ipv4/ip_forward", "0")?;
        // A process of its own, so that it can be left standing.
        let mut command = hosts.server.command(std::env::current_exe()?);
        let address = S0::at_server(POP3).to_string();
        let mut mailbox = Process::spawn(command.args(["demo", "--serve", &address]))?;
        mailbox.wait_output(LISTENING, Duration::from_secs(10))?;
        let config = GatewayConfig {
            interfaces: vec![S0::DEVICE],
            rules: vec![RULE],
            ..GatewayConfig::default()
        };
        let text = config.to_toml(Mode::Xdp, &socket_in(&directory));
        let forwarder = Forwarder::start_with(&hosts.gateway, binary, directory, &text)?;
        Ok(Self {
            forwarder,
            mailbox,
            hosts,
        })
    }

    /// Fetches the mail.
    pub fn converse(&self) -> Result<Transcript> {
        let stream = connect(&self.hosts.client, S0::at_gateway(POP3))
            .with_context(|| self.forwarder.report())?;
        pop3_client(stream).context("the conversation broke off")
    }

    /// Who the mail host says it talked to.
    pub fn seen_by_mail_host(&self) -> Result<IpAddr> {
        let printed = self.mailbox.stdout();
        let last = printed
            .lines()
            .last()
            .context("the mail host was not reached")?;
        last.parse()
            .with_context(|| format!("the mail host printed {last:?}"))
    }

    /// What the gateway's stack has counted so far.
    pub fn gateway_counters(&self) -> Result<Counters> {
        self.hosts.gateway.counters()
    }

    /// Leaves everything standing.
    pub fn keep(mut self) {
        for namespace in self.hosts.namespaces_mut() {
            namespace.keep();
        }
        self.mailbox.keep();
        self.forwarder.keep();
    }
}
