//! A host under examination.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::netns::{Namespace, Prefix, Wire};
use tests::process::{Process, output};
use tests::scenario::{Forwarder, S0, binary};

const PATIENCE: Duration = Duration::from_secs(60);

/// One rule that S0 serves.
pub const POP3: &str = "\
[[interface]]
name = \"eth0\"
[[forward]]
name = \"pop3\"
listen = \"203.0.113.5:110\"
to = \"195.228.245.1:110\"
source = \"masquerade\"
";

/// [`POP3`] on native XDP.
pub fn on_xdp() -> String {
    in_mode("xdp")
}

/// [`POP3`] in a mode.
pub fn in_mode(mode: &str) -> String {
    POP3.replace("\"eth0\"", &format!("\"eth0\"\nmode = \"{mode}\""))
}

/// S0 on complete frames.
pub fn s0() -> Result<S0> {
    S0::build(&Prefix::unique(), Wire::CABLE)
}

/// A namespace with a configuration file.
pub struct Patient<'a> {
    namespace: &'a Namespace,
    /// Whose BPF file system the commands see.
    forwarder: Option<&'a Forwarder>,
    directory: TempDir,
}

impl<'a> Patient<'a> {
    /// With this file, to which a control socket of its own is added.
    pub fn new(namespace: &'a Namespace, text: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("s");
        let text = format!("{text}\n[control]\nsocket = \"{}\"\n", socket.display());
        let it = Self {
            namespace,
            forwarder: None,
            directory,
        };
        fs::write(it.file(), text)?;
        Ok(it)
    }

    /// Where a daemon is or was at work, with this file.
    pub fn beside(namespace: &'a Namespace, forwarder: &'a Forwarder, text: &str) -> Result<Self> {
        Ok(Self {
            forwarder: Some(forwarder),
            ..Self::new(namespace, text)?
        })
    }

    /// Its configuration file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("f.toml")
    }

    /// A command there.
    pub fn command(&self, program: &str) -> Command {
        match self.forwarder {
            Some(forwarder) => forwarder.command(program),
            None => self.namespace.command(program),
        }
    }

    /// `forwarder doctor`, without arguments but the file's name.
    pub fn doctor(&self) -> Result<Command> {
        let mut command = self.command(&binary()?.display().to_string());
        command.arg("doctor").arg(self.file());
        Ok(command)
    }

    /// The report. The exit code must be what the findings are.
    pub fn report(&self) -> Result<Value> {
        let mut process = Process::spawn(self.doctor()?.arg("--json"))?;
        let code = process.wait(PATIENCE)?.code();
        let report: Value = serde_json::from_str(&process.stdout())
            .with_context(|| format!("no JSON{}", process.said()))?;
        let bad = all(&report).iter().any(|one| one["severity"] == "error");
        ensure!(code == Some(i32::from(bad)), "exit code {code:?}: {report}");
        Ok(report)
    }

    /// The findings of a check.
    pub fn findings(&self, check: &str) -> Result<Vec<Value>> {
        let found = all(&self.report()?);
        Ok(found
            .into_iter()
            .filter(|one| one["check"] == check)
            .collect())
    }

    /// The first finding of a check, which must be this bad.
    pub fn finding(&self, check: &str, severity: &str) -> Result<Value> {
        let report = self.report()?;
        let found = all(&report).into_iter().find(|one| one["check"] == check);
        let found = found.with_context(|| format!("{check} is not found: {report:#}"))?;
        ensure!(found["severity"] == severity, "{found:#}");
        ensure!(found["why"] != "" && found["what"] != "", "{found:#}");
        Ok(found)
    }

    /// Fails if the check still finds something.
    pub fn healed(&self, check: &str) -> Result<()> {
        let left = self.findings(check)?;
        ensure!(left.is_empty(), "{check} is still found: {left:#?}");
        Ok(())
    }

    /// Runs the commands that a finding gives.
    pub fn mend(&self, finding: &Value) -> Result<()> {
        let commands = commands(finding);
        ensure!(!commands.is_empty(), "no command mends it: {finding:#}");
        for command in commands {
            self.shell(&command)?;
        }
        Ok(())
    }

    /// Runs a line of shell there, with the forwarder in its path.
    pub fn shell(&self, line: &str) -> Result<String> {
        let binary = binary()?;
        let directory = binary.parent().context("the binary is in a directory")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.command("sh");
        command
            .args(["-c", line])
            .env("PATH", format!("{}:{path}", directory.display()));
        output(&mut command, PATIENCE).with_context(|| line.to_owned())
    }

    /// A fault that is found, mended by its own command, and then is not found any more.
    pub fn mended(&self, check: &str, severity: &str) -> Result<()> {
        let finding = self.finding(check, severity)?;
        self.mend(&finding)?;
        self.healed(check)
    }

    /// Fails unless `forwarder run` refuses to start.
    pub fn does_not_start(&self) -> Result<()> {
        let mut process = Process::spawn(&mut self.run()?)?;
        let code = process.wait(PATIENCE)?.code();
        ensure!(code == Some(1), "exit code {code:?}{}", process.said());
        Ok(())
    }

    /// Fails unless `forwarder run` starts.
    pub fn starts(&self) -> Result<()> {
        let mut process = Process::spawn(&mut self.run()?)?;
        let socket = self.directory.path().join("s");
        process.wait_ready("the control socket", PATIENCE, || socket.exists())?;
        // It exists before the programs are on the devices.
        let binary = binary()?;
        let asked = || {
            let mut status = Command::new(&binary);
            status.arg("status").arg("--socket").arg(&socket);
            output(&mut status, PATIENCE).is_ok()
        };
        process.wait_ready("an answer", PATIENCE, asked)?;
        process.stop()
    }

    /// The daemon with a BPF file system of its own.
    fn run(&self) -> Result<Command> {
        let mut command = self.command("unshare");
        let line = "mount -t bpf bpf /sys/fs/bpf && exec \"$0\" run --config \"$1\"";
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", line])
            .arg(binary()?)
            .arg(self.file());
        Ok(command)
    }
}

/// All findings of a report.
pub fn all(report: &Value) -> Vec<Value> {
    let groups = report["groups"].as_array().map(Vec::as_slice);
    let findings = groups
        .unwrap_or_default()
        .iter()
        .filter_map(|group| group["findings"].as_array());
    findings.flatten().cloned().collect()
}

/// The commands that a finding gives.
pub fn commands(finding: &Value) -> Vec<String> {
    let mend = finding["mend"].as_array().map(Vec::as_slice);
    let commands = mend.unwrap_or_default().iter();
    commands
        .filter_map(|one| one["run"].as_str())
        .map(str::to_owned)
        .collect()
}

/// What a finding advises where no command mends it.
pub fn advice(finding: &Value) -> Result<String> {
    let mend = finding["mend"].as_array().map(Vec::as_slice);
    let advice = mend.unwrap_or_default().iter();
    let Some(advice) = advice.filter_map(|one| one["do"].as_str()).next() else {
        bail!("no advice: {finding:#}")
    };
    Ok(advice.to_owned())
}
