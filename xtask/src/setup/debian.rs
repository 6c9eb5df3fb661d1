//! Debian packages: which are missing, and installing them without starting the services they bring.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{say, step};

/// Installs the packages that are missing.
pub fn ensure(names: &[&str]) -> Result<()> {
    let missing = missing(names);
    if missing.is_empty() {
        say(format!("packages: {} present", names.len()));
        return Ok(());
    }
    possible().with_context(|| {
        let list = missing.join(" ");
        format!("these packages are missing and only root on Debian can install them here: {list}")
    })?;
    update();
    install(&missing)
}

/// Whether packages can be installed; the error says why not.
pub fn possible() -> Result<()> {
    if which::which("apt-get").is_err() {
        bail!("there is no apt-get");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("this is not root");
    }
    Ok(())
}

/// Fetches the package lists, once in a run. A third-party source that does not answer makes this fail although Debian's own lists
/// came, so only the installation decides.
pub fn update() {
    static DONE: Once = Once::new();
    DONE.call_once(update_now);
}

fn update_now() {
    if let Err(error) = step("fetching the package lists", apt_get().arg("update")) {
        say(format!("going on with the lists that are there: {error:#}"));
    }
}

/// Installs packages, new or not.
pub fn install(names: &[&str]) -> Result<()> {
    let _guard = ServicesStayOff::new()?;
    let mut command = apt_get();
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(names);
    step(&format!("installing {}", names.join(" ")), &mut command)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Somebody else may be installing something.
        .args(["-o", "DPkg::Lock::Timeout=300"]);
    command
}

fn missing<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut query = Command::new("dpkg-query");
    query
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(names);
    // dpkg-query fails when it does not know one of them, and still lists the others.
    let listed = query.stderr(std::process::Stdio::null()).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    let installed = |name: &str| {
        listed
            .lines()
            .any(|line| line == format!("{name} installed"))
    };
    names
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect()
}

/// While this lives, installing a mail server does not start it: the tests start their own, in namespaces.
struct ServicesStayOff {
    policy: Option<PathBuf>,
}

impl ServicesStayOff {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        let policy = Path::new(Self::POLICY);
        if policy.exists() {
            return Ok(Self { policy: None });
        }
        // 101 is "action forbidden by policy".
        fs::write(policy, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", policy.display()))?;
        Ok(Self {
            policy: Some(policy.to_owned()),
        })
    }
}

impl Drop for ServicesStayOff {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy
            && let Err(error) = fs::remove_file(policy)
        {
            say(format!(
                "remove {} by hand, or services will not start: {error}",
                policy.display()
            ));
        }
    }
}
