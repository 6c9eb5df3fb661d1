//! Which compiler and linker build the eBPF crate. The build scripts include this file by its path, so that a
//! plain `cargo build` and `cargo xtask setup` can never disagree; it uses nothing but `std` for that reason.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What every command says when there is nothing to build the eBPF crate with.
pub const MISSING: &str = "no BPF toolchain: run `cargo xtask setup`";

/// The name under which `setup` links a distribution's compiler into rustup.
pub const LINKED: &str = "bpf";

const TARGET: &str = "bpfel-unknown-none";

/// A rustup toolchain that can build `core` for BPF, or has it built already.
pub struct Toolchain {
    /// What `rustup run` calls it.
    pub name: &'static str,
    /// `rustc --print sysroot`.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// The usual one first: a nightly that can build `core` from source. Else a distribution's compiler that brings
    /// `core` for BPF with it.
    pub fn find() -> Option<Self> {
        ["nightly", LINKED].into_iter().find_map(|name| {
            let sysroot = PathBuf::from(rustc(name, &["--print", "sysroot"])?);
            let toolchain = Self { name, sysroot };
            toolchain.can_build_core().then_some(toolchain)
        })
    }

    fn can_build_core(&self) -> bool {
        let rustlib = self.sysroot.join("lib/rustlib");
        match self.name {
            LINKED => rustlib.join(TARGET).is_dir(),
            _ => rustlib.join("src/rust/library").is_dir(),
        }
    }

    /// What must be set for the nested build: the linker within reach and, because a distribution's compiler is a
    /// stable one, leave for aya-ebpf alone to use unstable features.
    ///
    /// aya-build turns to build-std when `RUSTC_BOOTSTRAP` is "1", which a linked compiler without the library's
    /// source cannot do, so a value inherited from outside must not get through either.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = Vec::new();
        if self.name == LINKED {
            variables.push(("RUSTC_BOOTSTRAP", OsString::from("aya_ebpf,forwarder_ebpf")));
        }
        let linker = find_linker();
        if let Some(directory) = linker.as_deref().and_then(Path::parent) {
            let inherited = env::var_os("PATH").unwrap_or_default();
            let directories =
                std::iter::once(directory.to_owned()).chain(env::split_paths(&inherited));
            if let Ok(path) = env::join_paths(directories) {
                variables.push(("PATH", path));
            }
        }
        variables
    }
}

/// bpf-linker as cargo installs it, else the first one on `PATH`. cargo's own directory goes first because it is the
/// only place where `setup` can replace one that does not fit.
pub fn find_linker() -> Option<PathBuf> {
    let inherited = env::var_os("PATH").unwrap_or_default();
    cargo_home()
        .map(|home| home.join("bin"))
        .into_iter()
        .chain(env::split_paths(&inherited))
        .map(|directory| directory.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

/// What `rustc` of this toolchain prints, or nothing when the toolchain is not there.
pub fn rustc(toolchain: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("rustup")
        .args(["run", toolchain, "rustc"])
        .args(arguments)
        // A question must not download a compiler.
        .env("RUSTUP_AUTO_INSTALL", "0")
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn cargo_home() -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}
