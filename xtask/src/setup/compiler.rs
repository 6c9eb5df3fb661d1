//! Gets a compiler that can build `core` for BPF: from rustup, else from Debian.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{debian, linker::llvm_major};
use crate::{
    shell::{output, quietly, say, step},
    toolchain::{LINKED, MISSING, Toolchain, rustc},
};

/// Tries what changes least first.
pub fn install() -> Result<Toolchain> {
    if which::which("rustup").is_err() {
        bail!(
            "the eBPF crate needs a compiler of its own, and only rustup (https://rustup.rs) can \
             keep one beside the distribution's cargo: install rustup and run this again"
        );
    }
    if let Err(error) = from_rustup() {
        say(format!("rustup gives no rust-src: {}", cause(&error)));
        from_debian()?;
    }
    Toolchain::find().context(MISSING)
}

/// The line of a failed command's output that says why; a backtrace may follow it.
fn cause(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let line = text.lines().find_map(|line| line.strip_prefix("error: "));
    line.or(text.lines().next()).unwrap_or_default().to_owned()
}

/// Adds the library's source to the nightly that is there; a nightly of another day could break whatever else uses
/// it. Only where there is none, one is installed.
fn from_rustup() -> Result<()> {
    let mut command = Command::new("rustup");
    if rustc("nightly", &["--version"]).is_some() {
        command.args(["component", "add", "rust-src", "--toolchain", "nightly"]);
        step("adding rust-src to the nightly compiler", &mut command)
    } else {
        command
            .args(["toolchain", "install", "nightly", "--profile", "minimal"])
            .args(["--component", "rust-src", "--component", "clippy"])
            .arg("--no-self-update");
        step("installing a nightly compiler", &mut command)
    }
}

/// Debian's security archive has a compiler with `core` built for BPF, because Firefox needs a recent one.
fn from_debian() -> Result<()> {
    if !has_core() {
        install_packages()?;
    }
    let mut link = Command::new("rustup");
    link.args(["toolchain", "link", LINKED, "/usr"]);
    quietly(&mut link)?;
    say(format!("/usr/bin/rustc is rustup's toolchain `{LINKED}`"));
    Ok(())
}

fn has_core() -> bool {
    Path::new("/usr/bin/rustc").exists()
        && Path::new("/usr/lib/rustlib/bpfel-unknown-none").is_dir()
}

fn install_packages() -> Result<()> {
    debian::possible().context(
        "rustup has no `rust-src` for nightly here, and only root on Debian can install a \
         compiler instead",
    )?;
    debian::update();
    let suffix = package_suffix()?;
    debian::install(&[
        &format!("rustc{suffix}"),
        &format!("libstd-rust{suffix}-dev-bpf"),
        &format!("rust{suffix}-llvm"),
        // Lints the eBPF crate.
        &format!("rust{suffix}-clippy"),
    ])
}

/// Debian may have two compilers, the release's own and a newer one "for the web" that browsers are built with.
fn package_suffix() -> Result<&'static str> {
    ["-web", ""]
        .into_iter()
        .find(|suffix| {
            let name = format!("libstd-rust{suffix}-dev-bpf");
            output(Command::new("apt-cache").args(["show", "--no-all-versions", &name])).is_some()
        })
        .context("this Debian has no package libstd-rust-web-dev-bpf: add its security archive")
}

/// The headers and libraries that bpf-linker is built against, for this compiler's LLVM.
pub fn install_llvm(toolchain: &Toolchain) -> Result<()> {
    let major = llvm_major(toolchain)?;
    debian::ensure(&[
        &format!("llvm-{major}-dev"),
        &format!("libpolly-{major}-dev"),
        "zlib1g-dev",
        "libzstd-dev",
    ])
}
