//! Builds the crate of the eBPF programs.

use std::process::ExitCode;

#[path = "../xtask/src/build_script.rs"]
mod build_script;

fn main() -> ExitCode {
    build_script::run("forwarder-ebpf", "../forwarder-ebpf")
}
