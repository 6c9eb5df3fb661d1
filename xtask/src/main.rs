//! The repository's own commands. `cargo xtask help` lists them.

mod bench;
mod build;
mod demo;
mod dist;
mod lint;
mod setup;
mod shell;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// The repository's own commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Xtask {
    /// Install what building and testing need and cargo does not bring
    Setup(setup::SetupArgs),
    /// Show the forwarder at work
    Demo(demo::DemoArgs),
    /// Measure the forwarder and its rivals side by side
    Bench(bench::BenchArgs),
    /// Build what users install: a static binary and a Debian package
    Dist(dist::DistArgs),
    /// Run the ladder of tests
    Test(test::TestArgs),
    /// Check formatting, clippy and the shape of the source
    Lint,
    /// Run a command on another kernel, in a virtual machine
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse() {
        Xtask::Setup(args) => setup::run(args),
        Xtask::Demo(args) => demo::run(args),
        Xtask::Bench(args) => bench::run(args),
        Xtask::Dist(args) => dist::run(args),
        Xtask::Test(args) => test::run(args),
        Xtask::Lint => lint::main(),
        Xtask::Vm(args) => vm::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
