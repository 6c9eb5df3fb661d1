//! Counts what libtest reports.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    ops::AddAssign,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Results of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Tally {
    /// Tests that did run.
    pub fn ran(self) -> usize {
        self.passed + self.failed
    }

    /// What failed without being a test.
    pub fn failures(failed: usize) -> Self {
        Self {
            failed,
            ..Self::default()
        }
    }

    /// Whether anything failed.
    pub fn has_failed(self) -> bool {
        self.failed > 0
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; …`.
    fn parse(line: &str) -> Option<Self> {
        let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            let mut parts = counts.split("; ");
            parts.find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(
            formatter,
            "{passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}

/// Runs a test binary, shows what it prints and counts its results.
pub fn run(name: &str, command: &mut Command) -> Result<Tally> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let stdout = child.stdout.take().context("the pipe was asked for")?;
    let mut tally = Tally::default();
    let mut named = false;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        match Tally::parse(&line) {
            Some(result) => tally += result,
            None if is_noise(&line) => {}
            None => {
                if !named {
                    println!("  {name}");
                    named = true;
                }
                println!("    {line}");
            }
        }
    }
    let status = child.wait()?;
    // A binary that was killed, or died outside a test, reports nothing.
    if !status.success() && tally.failed == 0 {
        println!("    {name} ended early ({status})");
        tally.failed += 1;
    }
    Ok(tally)
}

/// libtest's frame around the tests; most binaries of a workspace have none inside.
fn is_noise(line: &str) -> bool {
    let running = line.starts_with("running ") && line.trim_end().ends_with(['t', 's']);
    line.trim().is_empty() || running
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libtest_s_closing_line() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; \
                    finished in 0.01s";
        let tally = Tally {
            passed: 3,
            failed: 2,
            skipped: 1,
        };
        assert_eq!(Tally::parse(line), Some(tally));
        assert_eq!(tally.to_string(), "3 passed, 2 failed, 1 skipped");
        assert_eq!(Tally::parse("test result of mine: ok"), None);
    }

    #[test]
    fn a_binary_that_dies_counts_as_a_failure() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -9 $$"]);
        let tally = run("sh", &mut command).expect("sh is everywhere");
        assert_eq!(tally, Tally::failures(1));
    }
}
