//! `cargo xtask vm`: runs something on another kernel, with this machine's files. The verifier differs between
//! kernels, and some kernels lack VLANs, bonding or IPVS; how long a thing takes in here means nothing.

mod guest;
mod kernel;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{build, setup, shell::heading, test};
use kernel::Kernel;

/// Run a command on another kernel, in a virtual machine.
#[derive(Args)]
pub struct VmArgs {
    /// Which kernel; give it several times to run on several
    #[arg(long = "kernel", value_enum, required = true)]
    kernels: Vec<Kernel>,
    /// Seconds after which the command is stopped
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Test binaries of `tests/tests` to run, by the names of their files
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// What to run; default: the tests of the rung `prog-run`. With --test: a filter or options for the tests
    #[arg(last = true)]
    command: Vec<String>,
}

/// `cargo xtask vm`.
pub fn run(args: VmArgs) -> Result<()> {
    let command = if !args.tests.is_empty() {
        script(&chosen(&args.tests)?, &args.command)?
    } else if args.command.is_empty() {
        script(&test::prog_run_executables()?, &[])?
    } else {
        args.command.join(" ")
    };
    guest::ensure()?;
    let mut failed = Vec::new();
    for kernel in args.kernels {
        heading(&format!("Linux {}", kernel.version()));
        let started = Instant::now();
        let image = kernel::fetch(kernel)?;
        let code = guest::run(&image, &command, args.timeout)?;
        let seconds = started.elapsed().as_secs();
        println!("\n  exit code {code}, {seconds} s with the boot");
        if code != 0 {
            failed.push(kernel.version());
        }
    }
    if !failed.is_empty() {
        bail!("the command failed on Linux {}", failed.join(", "));
    }
    Ok(())
}

/// The test binaries with these names.
fn chosen(names: &[String]) -> Result<Vec<PathBuf>> {
    let executables = test::integration_executables()?;
    let find = |name: &String| {
        let found = executables.iter().find(|one| one.target == *name);
        found
            .map(|one| one.path.clone())
            .with_context(|| format!("there is no tests/tests/{name}.rs"))
    };
    names.iter().map(find).collect()
}

/// The shell command that runs test binaries, even after one failed.
fn script(binaries: &[PathBuf], arguments: &[String]) -> Result<String> {
    let forwarder = build::forwarder()?;
    if binaries.is_empty() {
        bail!("there is no test binary to run");
    }
    let quoted = |path: &Path| format!("'{}'", path.display());
    let mut script = format!(
        "cd {}; export FORWARDER_BIN={}; code=0",
        quoted(&setup::root().join("tests")),
        quoted(&forwarder)
    );
    let arguments = arguments.join(" ");
    for binary in binaries {
        script.push_str(&format!("; {} {arguments} || code=1", quoted(binary)));
    }
    script.push_str("; exit $code");
    Ok(script)
}
