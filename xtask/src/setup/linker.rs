//! bpf-linker: whether the one that is there fits the compiler, and building one that does.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use anyhow::{Context as _, Result, bail};

use super::{cache, compiler};
use crate::{
    shell::{quietly, say, step},
    toolchain::{LINKED, Toolchain, find_linker, rustc},
};

/// The version that the project is built and tested with.
const VERSION: &str = "0.13.0";

/// Makes sure that there is a bpf-linker that reads what this compiler writes.
pub fn ensure(toolchain: &Toolchain) -> Result<()> {
    let major = llvm_major(toolchain)?;
    let fits = find_linker().is_some_and(|linker| match checked(toolchain, &linker, major) {
        Ok(()) => true,
        Err(error) => {
            say(format!("{} does not fit: {error:#}", linker.display()));
            false
        }
    });
    if !fits {
        install(toolchain, major)?;
    }
    let linker = find_linker().context("cargo installed bpf-linker, but it is not in its bin")?;
    checked(toolchain, &linker, major)
        .with_context(|| format!("the new {} does not work", linker.display()))?;
    // Several commands of one run ask.
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        say(format!(
            "compiler: rustup's `{}` (LLVM {major}), linker: {}",
            toolchain.name,
            linker.display()
        ));
    });
    Ok(())
}

/// The LLVM that a compiler was built with; it writes that version's bitcode.
pub fn llvm_major(toolchain: &Toolchain) -> Result<u32> {
    let name = toolchain.name;
    let version = rustc(name, &["-vV"]).with_context(|| format!("`rustc +{name} -vV` fails"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next())
        .and_then(|major| major.parse().ok())
        .with_context(|| format!("`rustc +{name} -vV` names no LLVM version"))
}

/// Tries the linker once per compiler and linker; a stamp remembers that it worked.
fn checked(toolchain: &Toolchain, linker: &Path, major: u32) -> Result<()> {
    let file = fs::metadata(linker)?;
    let version = rustc(toolchain.name, &["-vV"]).unwrap_or_default();
    let key = format!(
        "{version}\n{}\n{}.{:09} {}\n",
        linker.display(),
        file.mtime(),
        file.mtime_nsec(),
        file.size()
    );
    let stamp = cache().join("bpf-linker.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|known| known == key) {
        return Ok(());
    }
    if let Some(own) = built_for(linker)?
        && own < major
    {
        bail!("it is built for LLVM {own} and the compiler is LLVM {major}");
    }
    try_linking(toolchain, linker)?;
    fs::create_dir_all(cache())?;
    fs::write(stamp, key)?;
    Ok(())
}

/// The LLVM in a bpf-linker. `--version` does not say; the file has either the name of the shared library
/// (`libLLVM.so.22.1`, `libLLVM-22.so`) or, built statically, the producer LLVM writes into bitcode (`LLVM22.1.8`).
///
/// An older LLVM often reads a newer one's bitcode until some construct turns up that it does not know, so that
/// linking a small file proves too little.
fn built_for(linker: &Path) -> Result<Option<u32>> {
    let bytes = fs::read(linker).with_context(|| format!("cannot read {}", linker.display()))?;
    let mut rest = bytes.as_slice();
    while let Some(at) = rest.windows(4).position(|window| window == b"LLVM") {
        rest = &rest[at + 4..];
        let tail = &rest[..rest.len().min(12)];
        let tail = tail.strip_prefix(b".so.").unwrap_or(tail);
        let tail = tail.strip_prefix(b"-").unwrap_or(tail);
        let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if (2..=3).contains(&digits) && tail.get(digits) == Some(&b'.') {
            return Ok(str::from_utf8(&tail[..digits])?.parse().ok());
        }
    }
    Ok(None)
}

/// Compiles and links one function. The host's target will do and needs no `core` for BPF: bitcode is bitcode.
fn try_linking(toolchain: &Toolchain, linker: &Path) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    fs::write(
        path("probe.rs"),
        "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn probe(x: u64) -> u64 { x + 1 }\n",
    )?;
    let mut compile = Command::new("rustup");
    compile
        .args(["run", toolchain.name, "rustc", "--edition=2024", "-O"])
        .args(["--crate-type=lib", "--emit=llvm-bc", "-o"])
        .args([path("probe.bc"), path("probe.rs")]);
    quietly(&mut compile)?;
    let mut link = Command::new(linker);
    link.args(["--target=bpfel-unknown-none", "--export=probe", "-o"])
        .args([path("probe.o"), path("probe.bc")]);
    quietly(&mut link)
}

/// Builds bpf-linker against the LLVM of the compiler.
fn install(toolchain: &Toolchain, major: u32) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (prefix, libraries) = if toolchain.name == LINKED {
        compiler::install_llvm(toolchain)?;
        let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
        let libraries = prefix.join("lib");
        (prefix, libraries)
    } else {
        let libraries = offer_own_llvm(toolchain, scratch.path())?;
        (scratch.path().to_owned(), libraries)
    };
    let flags = format!(
        "-L {} -C link-arg=-Wl,-rpath,{}",
        prefix.join("lib").display(),
        libraries.display()
    );
    let build = cache().join("bpf-linker");
    let mut command = Command::new("cargo");
    command
        .args(["install", "bpf-linker", "--locked", "--force"])
        .arg(format!("--version={VERSION}"))
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{major}"))
        .env("LLVM_PREFIX", &prefix)
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_BOOTSTRAP")
        // Kept outside the workspace's own build, and until it succeeds: a second try goes on from there.
        .env("CARGO_TARGET_DIR", &build)
        .current_dir("/");
    let what = format!("building bpf-linker {VERSION} for LLVM {major}");
    step(&what, &mut command)?;
    fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

/// A nightly from rustup brings its LLVM as a shared library, under a name of its own. Linking against that one needs
/// no LLVM packages, and cannot be of the wrong version.
fn offer_own_llvm(toolchain: &Toolchain, prefix: &Path) -> Result<PathBuf> {
    let libraries = toolchain.sysroot.join("lib");
    let library = fs::read_dir(&libraries)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libLLVM.so.")
        })
        .with_context(|| {
            format!(
                "there is no bpf-linker that fits rustup's `{}`, and no libLLVM in {} to build one \
                 with: install bpf-linker {VERSION} by hand",
                toolchain.name,
                libraries.display()
            )
        })?;
    fs::create_dir(prefix.join("lib"))?;
    symlink(library, prefix.join("lib/libLLVM.so"))?;
    Ok(libraries)
}
