//! What the build scripts of `forwarder` and `bench` do: build the crate of their eBPF programs into `OUT_DIR`, with the
//! compiler `cargo xtask setup` provides. They include this file by its path; it is no part of xtask.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use aya_build::{Package, Toolchain as AyaToolchain};

#[path = "toolchain.rs"]
mod toolchain;

use toolchain::Toolchain;

/// Lets `cargo check` and `cargo clippy` pass where there is no BPF toolchain. aya-build has the same variable.
const SKIP: &str = "AYA_BUILD_SKIP";

/// What stands between cargo and the compiler, and says for which BPF instruction set to build.
const COMPILER: &str = "../forwarder-ebpf/rustc";

/// Builds the crate `name` in `directory`, which lies beside the calling crate, into `OUT_DIR/name`.
pub fn run(name: &'static str, directory: &'static str) -> ExitCode {
    match build(name, directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build(name: &'static str, directory: &'static str) -> anyhow::Result<()> {
    // aya-build adds the eBPF crate itself; these it does not know of.
    for path in [
        "../forwarder-common/src",
        "../Cargo.toml",
        "../Cargo.lock",
        "../xtask/src/build_script.rs",
        "../xtask/src/toolchain.rs",
        COMPILER,
    ] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed={SKIP}");
    if env::var(SKIP).is_ok_and(|value| value == "1" || value.eq_ignore_ascii_case("true")) {
        return write_nothing(name);
    }

    let toolchain = Toolchain::find().context(toolchain::MISSING)?;
    let linker = toolchain::find_linker().context(toolchain::MISSING)?;
    for path in [toolchain.sysroot.join("bin/rustc"), linker] {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let nested = [
        // One build of the eBPF crate and its macros' dependencies serves every profile of this one.
        ("CARGO_BUILD_BUILD_DIR", build_directory()?.into_os_string()),
        // aya-build turns each line of progress into a warning; the compiler's own come another way.
        ("CARGO_TERM_QUIET", "true".into()),
        // aya-build sets the compiler's flags itself, and has no room for others.
        ("RUSTC_WRAPPER", compiler()?.into_os_string()),
    ];
    for (key, value) in toolchain.environment().into_iter().chain(nested) {
        // SAFETY: no other thread runs yet that could read the environment; aya-build starts its
        // own later.
        unsafe { env::set_var(key, value) };
    }
    let package = Package {
        name,
        root_dir: directory,
        ..Package::default()
    };
    aya_build::build_ebpf([package], AyaToolchain::Custom(toolchain.name))
}

/// [`COMPILER`], wherever it is called from.
fn compiler() -> anyhow::Result<PathBuf> {
    fs::canonicalize(COMPILER).with_context(|| format!("cannot find {COMPILER}"))
}

/// `target/ebpf`: `OUT_DIR` is `target/PROFILE/build/PACKAGE/out`. It cannot be `target` itself, which the cargo that
/// runs this has locked.
fn build_directory() -> anyhow::Result<PathBuf> {
    let out = env::var_os("OUT_DIR").context("cargo sets OUT_DIR for build scripts")?;
    let target = Path::new(&out).ancestors().nth(4);
    Ok(target.context("OUT_DIR is too short")?.join("ebpf"))
}

/// An empty object keeps the crate compiling; it cannot be loaded, and is not meant to be.
fn write_nothing(name: &str) -> anyhow::Result<()> {
    let package = env::var("CARGO_PKG_NAME").unwrap_or_default();
    println!("cargo:warning={SKIP} is set: this {package} has no eBPF program in it");
    let directory = env::var_os("OUT_DIR").context("cargo sets OUT_DIR for build scripts")?;
    fs::write(Path::new(&directory).join(name), []).context("cannot write the empty eBPF object")
}
