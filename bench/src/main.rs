//! `cargo xtask bench` runs this.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;

use bench::{
    conntrack::Room,
    gateway::Candidate,
    napi,
    phases::Phase,
    results::{Machine, Results},
    rig::Cpus,
    session::Session,
    table,
};
use nix::unistd::Pid;
use tests::netns::{Prefix, require_root};

/// Measure the forwarder and its rivals side by side
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    /// Over within a minute and a half: few rounds, short looks, fewer flows
    #[arg(long)]
    quick: bool,
    /// How often everything is measured [default: 15, 3 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Only these groups of measurements
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Phase>,
    /// The CPU of the generator and that of the gateway
    #[arg(long, value_delimiter = ',', num_args = 2, value_names = ["GENERATOR", "GATEWAY"], default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// Where to put results.json and the plots
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    output: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    require_root()?;
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 15 });
    let results = Results::new(Machine::this(), rounds as usize, arguments.quick);
    let cpus = Cpus {
        generator: arguments.cpus[0],
        gateway: arguments.cpus[1],
    };
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("creating {}", arguments.output.display()))?;
    napi::leave(Pid::from_raw(0), cpus.gateway)?;
    let mut session = Session::new(Prefix::unique(), cpus, Candidate::ALL.to_vec(), results);
    let room = if arguments.quick {
        Room::default()
    } else {
        Room::make(1_500_000, 4)?
    };
    session.results.notes.extend(room.changes());
    let phases = Phase::ALL.into_iter();
    for phase in phases.filter(|it| arguments.only.is_empty() || arguments.only.contains(it)) {
        eprintln!("{phase:?}");
        let started = std::time::Instant::now();
        phase.run(&mut session)?;
        eprintln!("{phase:?}: {:.0} s", started.elapsed().as_secs_f64());
        session.results.write(&arguments.output.join("results.json"))?;
    }
    print!("{}", table::render(&session.results));
    Ok(())
}
