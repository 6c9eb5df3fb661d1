//! Debian's kernels, fetched with an apt of our own: the system's sources and package state stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    setup,
    shell::{output, quietly, say, step},
};

const MIRROR: &str = "http://deb.debian.org";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What the image is called in every release; it depends on the package with the version in its name.
const IMAGE: &str = "linux-image-amd64";

/// A kernel that the forwarder is tested with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian 11, the oldest
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Debian 12, backports
    #[value(name = "6.12")]
    V6_12,
    /// Debian unstable
    #[value(name = "7.2")]
    V7_2,
}

impl Kernel {
    pub fn version(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }

    /// The archives, and the suite in them that the kernel comes from. An image depends on packages of its release,
    /// so that the release itself is always there.
    fn suites(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::V5_10 => (
                &["debian bullseye", "debian-security bullseye-security"],
                "bullseye-security",
            ),
            Self::V6_1 => (
                &["debian bookworm", "debian-security bookworm-security"],
                "bookworm-security",
            ),
            Self::V6_12 => (
                &["debian bookworm", "debian bookworm-backports"],
                "bookworm-backports",
            ),
            Self::V7_2 => (&["debian sid"], "sid"),
        }
    }
}

/// Where `vm` keeps kernels and tools.
pub fn cache() -> PathBuf {
    setup::cache().join("vm")
}

/// The kernel's image, its modules beside it as Debian lays them out. Fetched once.
pub fn fetch(kernel: Kernel) -> Result<PathBuf> {
    let directory = cache().join(kernel.version());
    let root = directory.join("root");
    if let Some(image) = find_image(&root) {
        return Ok(image);
    }
    // Whatever an interrupted run left.
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    let apt = Apt::new(kernel, &directory)?;
    let what = format!("fetching the package lists of {}", apt.suite);
    step(&what, apt.get().arg("update"))?;
    let packages = apt.packages()?;
    if !packages.iter().any(|name| name.contains(kernel.version())) {
        // Unstable moves on.
        say(format!(
            "asked for {}, there is {}",
            kernel.version(),
            packages.join(" ")
        ));
    }
    let downloads = directory.join("deb");
    fs::create_dir_all(&downloads)?;
    let mut download = apt.get();
    download
        .arg("download")
        .args(&packages)
        .current_dir(&downloads);
    step(&format!("fetching {}", packages.join(" ")), &mut download)?;
    // Unpacked aside, so that what is under `root` is whole.
    let unpacked = directory.join("unpacked");
    for entry in fs::read_dir(&downloads)? {
        let mut unpack = Command::new("dpkg");
        quietly(unpack.arg("-x").arg(entry?.path()).arg(&unpacked))?;
    }
    fs::rename(&unpacked, &root)?;
    fs::remove_dir_all(&downloads)?;
    find_image(&root).with_context(|| format!("{} have no kernel image", packages.join(" ")))
}

/// `boot/vmlinuz-VERSION`, or `usr/lib/modules/VERSION/vmlinuz` in newer packages.
fn find_image(root: &Path) -> Option<PathBuf> {
    let entries = |directory: &str| {
        let listed = fs::read_dir(root.join(directory)).into_iter().flatten();
        listed.filter_map(|entry| Some(entry.ok()?.path()))
    };
    let is_image = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && name.starts_with("vmlinuz")
    };
    let beside_modules = entries("usr/lib/modules").map(|version| version.join("vmlinuz"));
    entries("boot").chain(beside_modules).find(is_image)
}

/// An apt whose configuration, lists and state lie in one directory.
struct Apt {
    configuration: PathBuf,
    suite: &'static str,
}

impl Apt {
    fn new(kernel: Kernel, directory: &Path) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("the kernels are Debian's, and {KEYRING} is not here to check them with");
        }
        let apt = directory.join("apt");
        fs::create_dir_all(apt.join("lists/partial"))?;
        fs::create_dir_all(apt.join("cache/archives/partial"))?;
        // Nothing is installed as far as this apt knows.
        fs::write(apt.join("status"), "")?;
        let (archives, suite) = kernel.suites();
        let sources = archives.iter().map(|archive| {
            let (archive, suite) = archive.split_once(' ').unwrap_or((archive, ""));
            format!("deb [arch=amd64 signed-by={KEYRING}] {MIRROR}/{archive} {suite} main\n")
        });
        fs::write(apt.join("sources.list"), sources.collect::<String>())?;
        let at = apt.display();
        let configuration = apt.join("apt.conf");
        fs::write(
            &configuration,
            format!(
                "Dir::State \"{at}\";\n\
                 Dir::State::status \"{at}/status\";\n\
                 Dir::Cache \"{at}/cache\";\n\
                 Dir::Etc::sourcelist \"{at}/sources.list\";\n\
                 Dir::Etc::sourceparts \"/dev/null\";\n\
                 Dir::Etc::preferences \"/dev/null\";\n\
                 Dir::Etc::preferencesparts \"/dev/null\";\n\
                 APT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\n"
            ),
        )?;
        Ok(Self {
            configuration,
            suite,
        })
    }

    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("APT_CONFIG", &self.configuration);
        command
    }

    /// The image's packages; newer releases split it into several.
    fn packages(&self) -> Result<Vec<String>> {
        let mut simulate = self.get();
        simulate
            .args(["install", "--simulate", "--no-install-recommends"])
            .args(["--target-release", self.suite, IMAGE]);
        let plan = output(&mut simulate)
            .with_context(|| format!("{} has no installable {IMAGE}", self.suite))?;
        let names = plan
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next());
        let parts = ["linux-image-", "linux-binary-", "linux-modules-"];
        let is_part = |name: &&str| parts.iter().any(|part| name.starts_with(part));
        // The one without a version has no files.
        Ok(names
            .filter(is_part)
            .filter(|name| *name != IMAGE)
            .map(str::to_owned)
            .collect())
    }
}
