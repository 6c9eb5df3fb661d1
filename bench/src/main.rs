//! `cargo xtask bench` runs this.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use bench::{
    compare,
    conntrack::Room,
    gates,
    gateway::Candidate,
    napi,
    phases::Phase,
    plot,
    results::{Machine, Results},
    rig::Cpus,
    session::Session,
    table,
};
use nix::unistd::Pid;
use tests::{
    interrupt,
    netns::{Prefix, remove_named, require_root},
};

/// Measure the forwarder and its rivals side by side
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", after_help = EXAMPLES)]
struct Arguments {
    /// Over within a minute and a half: few rounds, short looks, fewer flows
    #[arg(long)]
    quick: bool,
    /// How often everything is measured [default: 15, 3 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Compare with the results.json of an earlier run
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Measure nothing; tables and plots of an earlier run
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
    /// Only these groups of measurements
    #[arg(long, value_enum, value_delimiter = ',', value_name = "GROUP")]
    only: Vec<Phase>,
    /// Only these candidates; quotients need iptables-legacy among them
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CANDIDATE")]
    candidates: Vec<Candidate>,
    /// The CPU of the generator and that of the gateway
    #[arg(long, value_delimiter = ',', num_args = 2, value_names = ["GENERATOR", "GATEWAY"], default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// Where to put results.json and the plots
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    output: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                                       everything
  cargo xtask bench --only program --rounds 9             what a change to the datapath comes to, in half a minute
  cargo xtask bench --only datagrams --candidates iptables-legacy,xdp
  cargo xtask bench --compare earlier.json";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let earlier = arguments
        .compare
        .as_deref()
        .map(Results::read)
        .transpose()?;
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("creating {}", arguments.output.display()))?;
    if let Some(path) = &arguments.show {
        return report(arguments, &Results::read(path)?, earlier.as_ref());
    }
    require_root()?;
    let prefix = Prefix::unique();
    let room = Arc::new(Mutex::new(Room::default()));
    let restored = Arc::clone(&room);
    interrupt::on_signal(&prefix, move || restore(&restored))?;
    let outcome = measure(arguments, &prefix, &room);
    remove_named(&prefix);
    restore(&room);
    // After a signal the failure is only its echo, and the clean-up ends the process.
    interrupt::finished();
    let results = outcome?;
    println!("{}\n", arguments.output.join("results.json").display());
    report(arguments, &results, earlier.as_ref())
}

fn restore(room: &Mutex<Room>) {
    room.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .restore();
}

fn measure(arguments: &Arguments, prefix: &Prefix, room: &Mutex<Room>) -> Result<Results> {
    let quick = arguments.quick;
    let rounds = arguments.rounds.unwrap_or(if quick { 3 } else { 15 });
    let results = Results::new(Machine::this(), rounds as usize, quick);
    let cpus = Cpus {
        generator: arguments.cpus[0],
        gateway: arguments.cpus[1],
    };
    ensure!(
        cpus.generator != cpus.gateway,
        "generator and gateway need a CPU each"
    );
    napi::leave(Pid::from_raw(0), cpus.gateway)?;
    let chosen =
        |it: &Candidate| arguments.candidates.is_empty() || arguments.candidates.contains(it);
    let candidates: Vec<_> = Candidate::ALL.into_iter().filter(chosen).collect();
    let phases = if arguments.only.is_empty() {
        Phase::WHOLE.to_vec()
    } else {
        arguments.only.clone()
    };
    let room_needed = !quick
        && candidates.iter().any(|it| it.uses_conntrack())
        && phases.iter().any(|it| it.fills_conntrack());
    let mut session = Session::new(prefix.clone(), cpus, candidates, results);
    if room_needed {
        let made = Room::make(FLOWS, CONNTRACK_RIGS)?;
        session.results.notes.extend(made.changes());
        *room.lock().unwrap_or_else(PoisonError::into_inner) = made;
    }
    for phase in phases {
        eprintln!("{}", phase.title());
        let started = Instant::now();
        let outcome = phase.run(&mut session);
        eprintln!("  {:.0} s", started.elapsed().as_secs_f64());
        // What is measured is measured, whatever becomes of the rest.
        let path = arguments.output.join("results.json");
        session.results.write(&path)?;
        outcome?;
    }
    ensure!(
        !session.results.cells.is_empty(),
        "none of these candidates takes part in these measurements; leave out --candidates or --only"
    );
    Ok(session.results)
}

fn report(arguments: &Arguments, results: &Results, earlier: Option<&Results>) -> Result<()> {
    print!("{}", table::render(results));
    if let Some(earlier) = earlier {
        print!("\n{}", compare::render(earlier, results));
    }
    print!("{}", gates::render(results));
    match plot::draw(results, &arguments.output) {
        Ok(files) => files.iter().for_each(|file| println!("{}", file.display())),
        // The figures are there all the same.
        Err(error) => eprintln!("no plots: {error:#}"),
    }
    Ok(())
}

/// The most flows that a namespace's conntrack has at a time.
const FLOWS: u64 = 1_500_000;

/// How many rigs have that many.
const CONNTRACK_RIGS: u64 = 4;
