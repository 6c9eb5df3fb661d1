//! `cargo xtask setup`: everything that building, demonstrating and testing need and cargo does not bring.

mod compiler;
mod debian;
mod linker;

use std::{env, path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{
    shell::{output, say, step},
    toolchain::Toolchain,
};

/// The Debian packages that the tests use, one a line.
const PACKAGES: &str = include_str!("../../tests/packages.txt");

/// Provide what is missing.
#[derive(Args)]
pub struct SetupArgs {
    /// What for
    #[arg(value_enum, default_value = "test")]
    scope: Scope,
}

/// How much to provide; each includes the BPF compiler and linker.
#[derive(Clone, Copy, ValueEnum)]
pub enum Scope {
    /// The BPF compiler and linker
    Build,
    /// And `ip`, which makes network namespaces
    Demo,
    /// And the rivals, and a font for plots
    Bench,
    /// rustfmt and clippy
    Lint,
    /// All of these, and every program the tests use
    Test,
}

/// `cargo xtask setup`.
pub fn run(args: SetupArgs) -> Result<()> {
    let started = Instant::now();
    ensure(args.scope)?;
    say(format!("ready ({:.1} s)", started.elapsed().as_secs_f32()));
    Ok(())
}

/// Provides what the scope needs and is missing.
pub fn ensure(scope: Scope) -> Result<()> {
    toolchain()?;
    match scope {
        Scope::Build => Ok(()),
        Scope::Demo => debian::ensure(&["iproute2"]),
        Scope::Bench => debian::ensure(&[
            "iproute2",
            "iptables",
            "ipvsadm",
            "nftables",
            "fonts-dejavu-core",
        ]),
        Scope::Lint => components(),
        Scope::Test => {
            components()?;
            packages()
        }
    }
}

/// A BPF compiler with a linker that fits it.
pub fn toolchain() -> Result<Toolchain> {
    let toolchain = match Toolchain::find() {
        Some(toolchain) => toolchain,
        None => compiler::install()?,
    };
    linker::ensure(&toolchain)?;
    Ok(toolchain)
}

/// The programs that the namespace tests use.
pub fn packages() -> Result<()> {
    let names: Vec<_> = PACKAGES
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|name| !name.is_empty())
        .collect();
    debian::ensure(&names)
}

/// What boots another kernel.
pub fn vm_packages() -> Result<()> {
    debian::ensure(&["busybox-static", "kmod", "qemu-system-x86"])
}

/// rustfmt and clippy for the host's toolchain, which a minimal rustup profile leaves out.
fn components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if output(Command::new("cargo").args([subcommand, "--version"])).is_none() {
            let mut command = Command::new("rustup");
            command.args(["component", "add", component]);
            step(&format!("adding {component}"), &mut command)
                .with_context(|| format!("`cargo {subcommand}` is missing"))?;
        }
    }
    Ok(())
}

/// Where `setup` and `vm` keep what they make, inside cargo's target directory.
pub fn cache() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| root().join("target"));
    target.join("xtask")
}

/// The workspace.
pub fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(PathBuf::from).unwrap_or(xtask)
}
