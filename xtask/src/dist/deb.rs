//! The Debian package, by `dpkg-deb`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::tree::{self, Tree};
use crate::{setup, shell};

const DOC: &str = "usr/share/doc/forwarder";
/// Shell, and where its completions are looked for.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/forwarder"),
    ("zsh", "usr/share/zsh/vendor-completions/_forwarder"),
    ("fish", "usr/share/fish/vendor_completions.d/forwarder.fish"),
];

/// Packs `binary` and what belongs to it; the package is made in `output`.
pub fn build(binary: &Path, output: &Path) -> Result<PathBuf> {
    let architecture = shell::output(Command::new("dpkg").arg("--print-architecture"))
        .context("`dpkg` is missing: packages can be built on Debian and its kin only")?;
    let version = env!("CARGO_PKG_VERSION");
    let name = format!("forwarder_{version}_{architecture}");
    let tree = Tree::create(&output.join(&name))?;
    tree.program("usr/sbin/forwarder", &tree::read(binary)?)?;
    tree.directory("etc/forwarder")?;
    let packaging = setup::root().join("packaging");
    tree.copy(
        &packaging.join("forwarder.service"),
        "lib/systemd/system/forwarder.service",
    )?;
    documents(&tree, &packaging)?;
    generated(&tree, binary)?;
    control(&tree, &packaging, &architecture)?;

    let package = output.join(format!("{name}.deb"));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "-Zxz", "--build"]);
    shell::step("dpkg-deb", pack.arg(tree.root()).arg(&package))?;
    fs::remove_dir_all(tree.root())?;
    Ok(package)
}

fn documents(tree: &Tree, packaging: &Path) -> Result<()> {
    let root = setup::root();
    for (from, to) in [
        (root.join("README.md"), "README.md"),
        (root.join("LICENSE-APACHE"), "LICENSE-APACHE"),
        (root.join("LICENSE-MIT"), "LICENSE-MIT"),
        (packaging.join("debian/copyright"), "copyright"),
    ] {
        tree.copy(&from, &format!("{DOC}/{to}"))?;
    }
    for (directory, extension, to) in [("docs", "md", ""), ("examples", "toml", "examples/")] {
        for entry in fs::read_dir(root.join(directory))? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension)
                && let Some(name) = path.file_name().and_then(|name| name.to_str())
            {
                tree.copy(&path, &format!("{DOC}/{to}{name}"))?;
            }
        }
    }
    Ok(())
}

/// Pages and completions, which the binary itself writes.
fn generated(tree: &Tree, binary: &Path) -> Result<()> {
    for (shell, path) in COMPLETIONS {
        let text = shell::output(Command::new(binary).args(["completions", shell]));
        let text = text.with_context(|| format!("the binary writes no completions for {shell}"))?;
        tree.file(path, format!("{text}\n").as_bytes())?;
    }
    let pages = "usr/share/man/man1";
    tree.directory(pages)?;
    let pages = tree.root().join(pages);
    shell::step(
        "man pages",
        Command::new(binary).arg("man").arg("--output").arg(&pages),
    )?;
    for page in fs::read_dir(&pages)? {
        shell::run(Command::new("gzip").arg("-9n").arg(page?.path()))?;
    }
    Ok(())
}

fn control(tree: &Tree, packaging: &Path, architecture: &str) -> Result<()> {
    let size = tree.size()?.to_string();
    let debian = packaging.join("debian");
    let control = String::from_utf8(tree::read(&debian.join("control"))?)?
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ARCHITECTURE@", architecture)
        .replace("@SIZE@", &size);
    tree.file("DEBIAN/control", control.as_bytes())?;
    for script in ["postinst", "prerm", "postrm"] {
        let path = format!("DEBIAN/{script}");
        tree.program(&path, &tree::read(&debian.join(script))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes what the real one would, but shorter.
    const BINARY: &str = "#!/bin/sh
case $1 in
man) echo .TH forwarder 1 > \"$3/forwarder.1\" ;;
completions) echo \"# $2\" ;;
esac
";

    #[test]
    fn nothing_in_the_package_is_open_to_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let built = Tree::create(&directory.path().join("built")).expect("a directory");
        built
            .program("forwarder", BINARY.as_bytes())
            .expect("a script");
        let package = build(&built.root().join("forwarder"), directory.path()).expect("a package");
        let listing = shell::output(Command::new("dpkg-deb").arg("--contents").arg(&package));
        let listing = listing.expect("a listing");
        for line in listing.lines() {
            let (mode, rest) = line.split_at(10);
            assert!(rest.trim_start().starts_with("root/root"), "{line}");
            assert_eq!(&mode[5..6], "-", "the group may write: {line}");
            assert_eq!(&mode[8..9], "-", "others may write: {line}");
        }
        for path in [
            "./usr/sbin/forwarder",
            "./lib/systemd/system/forwarder.service",
            "./usr/share/man/man1/forwarder.1.gz",
            "./usr/share/bash-completion/completions/forwarder",
            "./usr/share/doc/forwarder/examples/s0-pop3.toml",
            "./etc/forwarder/",
        ] {
            assert!(
                listing.lines().any(|line| line.ends_with(path)),
                "{path}: {listing}"
            );
        }
        let fields = shell::output(Command::new("dpkg-deb").arg("--field").arg(&package));
        let fields = fields.expect("fields");
        for name in ["@VERSION@", "@ARCHITECTURE@", "@SIZE@"] {
            assert!(!fields.contains(name), "{fields}");
        }
    }
}
