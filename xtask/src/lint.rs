//! `cargo xtask lint`: formatting, clippy on both targets, and the shape of the source.

mod shape;
mod witnesses;

use std::process::Command;

use anyhow::{Result, bail};

use crate::{
    setup::{self, Scope},
    shell::{heading, run, say},
    toolchain::{LINKED, Toolchain},
};

/// `cargo xtask lint`.
pub fn main() -> Result<()> {
    setup::ensure(Scope::Lint)?;
    let failed = failures()?;
    if failed > 0 {
        bail!("{failed} of the checks found something");
    }
    Ok(())
}

/// Runs every check, so that one run shows all there is to do, and counts those that found something.
pub fn failures() -> Result<usize> {
    let toolchain = setup::toolchain()?;
    let mut failed = 0;
    let mut check = |name: &str, outcome: Result<()>| {
        heading(name);
        match outcome {
            Ok(()) => say("clean"),
            Err(error) => {
                say(format!("{error:#}"));
                failed += 1;
            }
        }
    };
    check("formatting", run(&mut format_check()));
    check("clippy, host", run(&mut host_clippy()));
    match ebpf_clippy(&toolchain) {
        Some(mut command) => check("clippy, eBPF", run(&mut command)),
        None => {
            heading("clippy, eBPF");
            say("left out: this compiler has no clippy");
        }
    }
    check("shape", shape::check(&setup::root()));
    check(
        "tests that the documents name",
        witnesses::check(&setup::root()),
    );
    Ok(failed)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(setup::root());
    command
}

fn format_check() -> Command {
    cargo(&["fmt", "--all", "--check"])
}

fn host_clippy() -> Command {
    cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--exclude=bench-ebpf",
        "--exclude=forwarder-ebpf",
        "--all-targets",
        "--",
        "--deny=warnings",
    ])
}

/// Clippy of the compiler that builds the eBPF crate: the host's would know neither the target nor its library.
fn ebpf_clippy(toolchain: &Toolchain) -> Option<Command> {
    if !toolchain.sysroot.join("bin/clippy-driver").exists() {
        return None;
    }
    let mut command = Command::new("rustup");
    command
        .args(["run", toolchain.name, "cargo", "clippy", "--quiet"])
        .args([
            "--package=forwarder-ebpf",
            "--package=bench-ebpf",
            "--release",
        ])
        .arg("--target=bpfel-unknown-none");
    if toolchain.name != LINKED {
        command.arg("-Zbuild-std=core");
    }
    command
        .args(["--", "--deny=warnings"])
        .envs(toolchain.environment())
        // Another compiler's files; cargo would rebuild them on every change of hands.
        .env("CARGO_TARGET_DIR", setup::cache().join("ebpf-clippy"))
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        )
        .current_dir(setup::root());
    Some(command)
}
