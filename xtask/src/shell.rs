//! Running other programs and saying so in one line.

use std::{
    fs,
    io::{IsTerminal as _, Write as _, stdout},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// Lines of a failed command's output that are shown; the cause stands at the end.
const SHOWN: usize = 25;

/// One finished or needless step.
pub fn say(text: impl AsRef<str>) {
    println!("  {}", text.as_ref());
}

/// The heading of one part of a longer run.
pub fn heading(text: &str) {
    println!("\n== {text}");
}

/// Runs a command whose output matters to the reader.
pub fn run(command: &mut Command) -> Result<()> {
    let text = describe(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Runs a command that is long and of interest only when it fails, as one line with its time. Networks stumble, so
/// it gets a second chance.
pub fn step(what: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    print!("  {what} …");
    // A terminal shows the unfinished line at once; where the output is kept, nobody is waiting.
    if stdout().is_terminal() {
        stdout().flush()?;
    }
    let first = quietly(command);
    let outcome = first.or_else(|_| quietly(command));
    let result = if outcome.is_ok() { "done" } else { "failed" };
    println!(" {result} ({:.0} s)", started.elapsed().as_secs_f32());
    outcome
}

/// What a command prints, or nothing when it is not there or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Runs a command with its output kept back; a failure carries the end of it.
pub fn quietly(command: &mut Command) -> Result<()> {
    let text = describe(command);
    // Both streams append to one file, in the order they were written.
    let log = tempfile::Builder::new().append(true).tempfile()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(log.as_file().try_clone()?)
        .stderr(log.as_file().try_clone()?)
        .status()
        .with_context(|| format!("cannot run `{text}`"))?;
    if status.success() {
        return Ok(());
    }
    let bytes = fs::read(log.path())?;
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    let end = lines[lines.len().saturating_sub(SHOWN)..].join(&b'\n');
    let end = String::from_utf8_lossy(&end);
    bail!("`{text}` failed ({status}):\n{}", end.trim_end())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
