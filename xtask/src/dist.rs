//! What users install: a static binary, and a Debian package with it, its unit, pages and completions.

mod deb;
mod tree;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{build, setup, shell};

#[derive(Args)]
#[command(after_help = "Example: cargo xtask dist && sudo dpkg -i target/dist/forwarder_*.deb")]
pub struct DistArgs {
    /// Cargo's profile; `dev` is faster to build, for trying the package
    #[arg(long, default_value = "release")]
    profile: String,
    /// Where the files go
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dist")]
    output: PathBuf,
}

/// How the binary is linked.
struct Linkage {
    target: String,
    /// For RUSTFLAGS.
    flags: &'static str,
    why: &'static str,
}

pub fn run(args: DistArgs) -> Result<()> {
    setup::toolchain()?;
    let output = setup::root().join(&args.output);
    fs::create_dir_all(&output).with_context(|| format!("cannot create {}", output.display()))?;

    shell::heading("static binary");
    let linkage = linkage()?;
    shell::say(format!("{}: {}", linkage.target, linkage.why));
    let built = build(&linkage, &args.profile)?;
    check_static(&built)?;
    let binary = output.join("forwarder");
    fs::copy(&built, &binary).with_context(|| format!("cannot write {}", binary.display()))?;
    shell::say(format!("{} ({} KiB)", binary.display(), size(&binary)?));

    shell::heading("Debian package");
    let package = deb::build(&binary, &output)?;
    shell::say(format!("{} ({} KiB)", package.display(), size(&package)?));
    exposure();
    Ok(())
}

/// musl's, whose library is meant to be linked statically, where there is a standard library for it; else glibc's.
fn linkage() -> Result<Linkage> {
    let arch = env::consts::ARCH;
    let musl = format!("{arch}-unknown-linux-musl");
    let mut list = Command::new("rustup");
    let installed = shell::output(list.args(["target", "list", "--installed"]));
    let has = |text: &str| text.lines().any(|line| line == musl);
    let there = installed.as_deref().is_some_and(has)
        || shell::step(
            "rustup target add, for musl",
            Command::new("rustup").args(["target", "add", &musl]),
        )
        .is_ok();
    Ok(if there {
        Linkage {
            target: musl,
            flags: "",
            why: "rustup has musl's standard library",
        }
    } else {
        Linkage {
            target: format!("{arch}-unknown-linux-gnu"),
            flags: "-C target-feature=+crt-static",
            why: "there is no standard library for musl, so glibc is linked statically",
        }
    })
}

fn build(linkage: &Linkage, profile: &str) -> Result<PathBuf> {
    // By the target's own variable, so that build scripts and the eBPF object are built as ever.
    let variable = linkage.target.to_uppercase().replace('-', "_");
    let variable = format!("CARGO_TARGET_{variable}_RUSTFLAGS");
    let arguments = [
        "build",
        "--package",
        "forwarder",
        "--bin",
        "forwarder",
        "--target",
        &linkage.target,
        "--profile",
        profile,
    ];
    build::executables_with(&arguments, &[(&variable, linkage.flags)])?
        .into_iter()
        .find(|executable| executable.kind == "bin")
        .map(|executable| executable.path)
        .context("cargo built no binary")
}

/// That no library is looked for when it starts.
fn check_static(binary: &Path) -> Result<()> {
    let headers = shell::output(Command::new("readelf").arg("-lW").arg(binary))
        .context("`readelf` of binutils is missing: apt-get install binutils")?;
    if headers.contains("INTERP") {
        bail!("{} asks for a dynamic linker", binary.display());
    }
    Ok(())
}

/// What systemd thinks of the unit.
fn exposure() {
    let unit = setup::root().join("packaging/forwarder.service");
    let mut analyze = Command::new("systemd-analyze");
    let report = shell::output(
        analyze
            .args(["security", "--offline=true", "--no-pager"])
            .arg(unit),
    );
    match report.as_deref().and_then(|report| report.lines().last()) {
        Some(verdict) => shell::say(verdict.trim_start_matches(['→', ' '])),
        None => shell::say("systemd-analyze is not there, so the unit is not rated"),
    }
}

fn size(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.len() / 1024)
}
