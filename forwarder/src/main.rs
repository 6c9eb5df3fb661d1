//! `forwarder`: see [`forwarder::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    forwarder::cli::main()
}
