//! `cargo xtask test`: the ladder, from what is quick and needs nothing to what needs root.

mod tally;

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    build::{self, Executable},
    lint,
    setup::{self, Scope},
    shell::{heading, say},
};
use tally::Tally;

/// Run the ladder of tests.
#[derive(Args)]
pub struct TestArgs {
    /// Only these rungs, in the ladder's order
    #[arg(value_enum)]
    rungs: Vec<Rung>,
    /// Passed to the test binaries: a filter, or options such as --ignored
    #[arg(last = true)]
    filter: Vec<String>,
}

/// A rung of the ladder; the order is the ladder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Rung {
    /// rustfmt, clippy and the shape of the source
    Lint,
    /// Unit and property tests, on the host
    Unit,
    /// The programs in the kernel, one packet at a time, by BPF_PROG_TEST_RUN
    ProgRun,
    /// The whole forwarder between network namespaces
    Namespace,
}

impl Rung {
    const ALL: [Self; 4] = [Self::Lint, Self::Unit, Self::ProgRun, Self::Namespace];

    fn title(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit and property tests",
            Self::ProgRun => "programs, one packet at a time",
            Self::Namespace => "network namespaces",
        }
    }

    fn needs_root(self) -> bool {
        self >= Self::ProgRun
    }

    /// Whether a test binary belongs here; the file's name decides.
    fn owns(self, executable: &Executable) -> bool {
        let package = &executable.package;
        let integration =
            executable.kind == "test" && (package.ends_with("tests") || package.ends_with("bench"));
        let rung = match executable.target.as_str() {
            name if integration && name.starts_with("prog_run") => Self::ProgRun,
            name if integration && name.starts_with("namespace") => Self::Namespace,
            _ => Self::Unit,
        };
        rung == self
    }
}

/// What all rungs share.
struct Ladder {
    forwarder: PathBuf,
    executables: Vec<Executable>,
    filter: Vec<String>,
    /// Why the packages that the namespace tests use are not there.
    packages: Option<String>,
}

/// `cargo xtask test`.
pub fn run(args: TestArgs) -> Result<()> {
    let started = Instant::now();
    let chosen = |rung: &Rung| args.rungs.is_empty() || args.rungs.contains(rung);
    let rungs: Vec<_> = Rung::ALL.into_iter().filter(chosen).collect();

    heading("setup");
    let packages = prepare(&rungs)?;
    let mut total = Tally::default();
    let mut broken = Vec::new();
    if rungs.contains(&Rung::Lint) {
        let failures = lint::failures()?;
        if failures > 0 {
            total += Tally::failures(failures);
            broken.push(Rung::Lint.title());
        }
    }
    let rungs: Vec<_> = rungs
        .into_iter()
        .filter(|rung| *rung > Rung::Lint)
        .collect();
    let tests_wanted = !rungs.is_empty();
    if !rungs.is_empty() {
        heading("build");
        let ladder = Ladder {
            forwarder: build::forwarder()?,
            executables: test_executables()?,
            filter: args.filter,
            packages,
        };
        for rung in rungs {
            heading(rung.title());
            let tally = ladder.climb(rung).unwrap_or_else(|error| {
                say(format!("{error:#}"));
                // A rung that could not be climbed must not look like one that was.
                Tally::failures(1)
            });
            say(tally.to_string());
            total += tally;
            if tally.has_failed() {
                broken.push(rung.title());
            }
        }
    }
    let seconds = started.elapsed().as_secs();
    println!("\n{total}, {} min {:02} s", seconds / 60, seconds % 60);
    if !broken.is_empty() {
        bail!("failed: {}", broken.join("; "));
    }
    if tests_wanted && total.ran() == 0 {
        bail!("no test has that in its name");
    }
    Ok(())
}

/// Without root the upper rungs cannot run, but the lower ones can; so a missing package is no reason to stop here.
fn prepare(rungs: &[Rung]) -> Result<Option<String>> {
    setup::ensure(Scope::Lint)?;
    if !rungs.contains(&Rung::Namespace) {
        return Ok(None);
    }
    Ok(setup::packages().err().map(|error| format!("{error:#}")))
}

/// The test binaries of the rung `prog-run`.
pub fn prog_run_executables() -> Result<Vec<PathBuf>> {
    let executables = test_executables()?.into_iter();
    let owned = executables.filter(|executable| Rung::ProgRun.owns(executable));
    Ok(owned.map(|executable| executable.path).collect())
}

/// The test binaries that the files of `tests/tests` make.
pub fn integration_executables() -> Result<Vec<Executable>> {
    let mut executables = test_executables()?;
    executables.retain(|one| Rung::ProgRun.owns(one) || Rung::Namespace.owns(one));
    Ok(executables)
}

/// Builds every test of the workspace at once, with the features of the whole; building them rung by rung would build
/// the dependencies anew for each selection of packages.
fn test_executables() -> Result<Vec<Executable>> {
    let mut executables = build::executables(&[
        "test",
        "--no-run",
        "--quiet",
        "--workspace",
        "--exclude=bench-ebpf",
        "--exclude=forwarder-ebpf",
    ])?;
    executables.retain(|executable| executable.is_test);
    Ok(executables)
}

impl Ladder {
    fn climb(&self, rung: Rung) -> Result<Tally> {
        if rung.needs_root() && !nix::unistd::geteuid().is_root() {
            bail!("this rung loads programs into the kernel and needs root");
        }
        if rung == Rung::Namespace
            && let Some(reason) = &self.packages
        {
            bail!("{reason}");
        }
        let mut tally = Tally::default();
        for executable in self.executables.iter().filter(|one| rung.owns(one)) {
            tally += self.test(executable)?;
        }
        if rung == Rung::Unit && self.filter.is_empty() {
            tally += doc_tests()?;
        }
        // A rung without a test proves nothing, and passes everything; with a filter that is what was asked for.
        if tally.ran() == 0 && self.filter.is_empty() {
            bail!("no test ran on this rung");
        }
        Ok(tally)
    }

    /// Runs one test binary the way `cargo test` would.
    fn test(&self, executable: &Executable) -> Result<Tally> {
        let package = executable.package.file_name().unwrap_or_default();
        let name = format!("{} {}", package.to_string_lossy(), executable.target);
        let mut command = Command::new(&executable.path);
        command
            .args(&self.filter)
            .current_dir(&executable.package)
            .env("CARGO_MANIFEST_DIR", &executable.package)
            .env("FORWARDER_BIN", &self.forwarder);
        tally::run(&name, &mut command)
    }
}

fn doc_tests() -> Result<Tally> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--quiet", "--doc", "--workspace"])
        .args(["--exclude=bench-ebpf", "--exclude=forwarder-ebpf"])
        .current_dir(setup::root());
    tally::run("documentation", &mut command).context("the documentation's examples")
}
