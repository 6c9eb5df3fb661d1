//! Builds the daemon and the bench.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::setup;

/// Builds the release binary with its eBPF object inside and returns where it is.
pub fn forwarder() -> Result<PathBuf> {
    release("forwarder")
}

/// The same for the bench, with the eBPF object that is its own.
pub fn bench() -> Result<PathBuf> {
    release("bench")
}

/// Builds the binary of a package that is called like it.
fn release(package: &str) -> Result<PathBuf> {
    setup::toolchain()?;
    executables(&["build", "--release", "--package", package])?
        .into_iter()
        .find(|executable| executable.target == package && executable.kind == "bin")
        .map(|executable| executable.path)
        .with_context(|| format!("cargo built the package `{package}` without its binary"))
}

/// A binary or test binary that cargo made.
pub struct Executable {
    /// The directory of its package, where cargo runs tests.
    pub package: PathBuf,
    /// `lib`, `bin` or `test`.
    pub kind: String,
    /// The target's name: `prog_run_parse` for `tests/prog_run_parse.rs`.
    pub target: String,
    /// Whether it was built to run tests. Of a package with integration tests, cargo also builds the plain
    /// binaries, for those tests to call.
    pub is_test: bool,
    /// The file to run.
    pub path: PathBuf,
}

/// Runs a cargo command that builds, and lists what it made.
pub fn executables(arguments: &[&str]) -> Result<Vec<Executable>> {
    executables_with(arguments, &[])
}

/// The same with variables in cargo's environment.
pub fn executables_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Vec<Executable>> {
    let output = Command::new("cargo")
        .args(arguments)
        .envs(variables.iter().copied())
        .arg("--message-format=json-render-diagnostics")
        .current_dir(setup::root())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed ({})", arguments.join(" "), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages
        .filter_map(|message| executable(&message))
        .collect())
}

fn executable(message: &Value) -> Option<Executable> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let manifest = PathBuf::from(message.get("manifest_path")?.as_str()?);
    let target = message.get("target")?;
    Some(Executable {
        package: manifest.parent()?.to_owned(),
        kind: text(target.get("kind")?.get(0)?)?,
        target: text(target.get("name")?)?,
        is_test: message.get("profile")?.get("test")?.as_bool()?,
        path: text(message.get("executable")?)?.into(),
    })
}
