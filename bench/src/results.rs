//! What was measured, as the JSON file has it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::gates::{self, Judged};
use crate::gateway::Candidate;
use crate::measure::Measure;
use crate::stats::{Summary, paired};

/// What the file is called by that it can be told from others.
const FORMAT: u32 = 1;

/// All rounds of one candidate in one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// What was measured.
    pub measure: Measure,
    /// Under which circumstances.
    pub case: String,
    /// Of whom.
    pub candidate: Candidate,
    /// By round; `null` where a round has failed.
    pub samples: Vec<Option<f64>>,
}

impl Cell {
    /// Its median and spread.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().copied().flatten())
    }
}

/// A candidate that takes no part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Absent {
    /// Who.
    pub candidate: Candidate,
    /// Why.
    pub reason: String,
}

/// Where it was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// How many CPUs are online.
    pub cpus: usize,
}

/// A run of the bench.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Of the file.
    pub format: u32,
    /// Where.
    pub machine: Machine,
    /// The forwarder's version.
    pub version: String,
    /// How many rounds were asked for.
    pub rounds: usize,
    /// Whether it was a quick run.
    pub quick: bool,
    /// What was measured.
    pub cells: Vec<Cell>,
    /// Who takes no part.
    pub absent: Vec<Absent>,
    /// What a reader has to know besides.
    pub notes: Vec<String>,
    /// How the run stands to what the forwarder has to reach.
    #[serde(default)]
    pub gates: Vec<Judged>,
}

impl Results {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(machine: Machine, rounds: usize, quick: bool) -> Self {
        Self {
            format: FORMAT,
            machine,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rounds,
            quick,
            cells: Vec::new(),
            absent: Vec::new(),
            notes: Vec::new(),
            gates: Vec::new(),
        }
    }

    /// Adds a round's value.
    pub fn record(
        &mut self,
        measure: Measure,
        case: &str,
        candidate: Candidate,
        value: Option<f64>,
    ) {
        match self.position(measure, case, candidate) {
            Some(index) => self.cells[index].samples.push(value),
            None => self.cells.push(Cell {
                measure,
                case: case.to_owned(),
                candidate,
                samples: vec![value],
            }),
        }
    }

    /// Says once that a candidate takes no part.
    pub fn record_absent(&mut self, candidate: Candidate, reason: &str) {
        if self.absent.iter().all(|it| it.candidate != candidate) {
            self.absent.push(Absent {
                candidate,
                reason: reason.to_owned(),
            });
        }
    }

    /// A cell, if it was measured.
    #[must_use]
    pub fn cell(&self, measure: Measure, case: &str, candidate: Candidate) -> Option<&Cell> {
        let index = self.position(measure, case, candidate)?;
        self.cells.get(index)
    }

    /// The cases of a measure, in the order they were measured in.
    #[must_use]
    pub fn cases(&self, measure: Measure) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for cell in self.cells.iter().filter(|cell| cell.measure == measure) {
            if !cases.contains(&cell.case.as_str()) {
                cases.push(&cell.case);
            }
        }
        cases
    }

    /// How a cell compares with the baseline in the same rounds.
    #[must_use]
    pub fn ratio(&self, cell: &Cell) -> Option<Summary> {
        let case = cell.measure.baseline(&cell.case);
        let baseline = self.cell(cell.measure, case, Candidate::BASELINE)?;
        paired(&cell.samples, &baseline.samples)
    }

    fn position(&self, measure: Measure, case: &str, candidate: Candidate) -> Option<usize> {
        self.cells.iter().position(|cell| {
            cell.measure == measure && cell.case == case && cell.candidate == candidate
        })
    }

    /// Writes the file, gates judged by what it has so far.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        self.gates = gates::judge(self);
        let text = serde_json::to_string_pretty(self).context("writing JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a file that [`Results::write`] wrote.
    ///
    /// # Errors
    /// If it is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let results: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no file of this bench's", path.display()))?;
        ensure!(
            results.format == FORMAT,
            "{} has format {}; this bench reads {FORMAT}",
            path.display(),
            results.format
        );
        Ok(results)
    }
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split(':').nth(1));
        Self {
            kernel: kernel.trim().to_owned(),
            processor: model.unwrap_or("unknown").trim().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let mut results = Results::new(Machine::default(), 2, true);
        for (candidate, values) in [
            (Candidate::IptablesLegacy, [Some(10.0), Some(20.0)]),
            (Candidate::Xdp, [Some(50.0), None]),
        ] {
            for value in values {
                results.record(Measure::Rate, "1k flows", candidate, value);
            }
        }
        results.record(
            Measure::Rate,
            "1k flows, 10k rules",
            Candidate::Xdp,
            Some(40.0),
        );
        results.record_absent(Candidate::Ipvs, "the kernel has no IPVS");
        results.record_absent(Candidate::Ipvs, "again");
        results
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        results().write(file.path()).expect("written");
        let read = Results::read(file.path()).expect("read");
        let cell = read.cell(Measure::Rate, "1k flows", Candidate::Xdp);
        assert_eq!(cell.expect("the cell").samples, [Some(50.0), None]);
        assert_eq!(read.absent.len(), 1);
    }

    #[test]
    fn another_format_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut results = results();
        results.format = 99;
        results.write(file.path()).expect("written");
        let error = Results::read(file.path()).expect_err("refused");
        assert!(error.to_string().contains("format 99"), "{error:#}");
    }

    #[test]
    fn ratios_are_paired_and_know_their_baseline() {
        let results = results();
        let ratio = |case| {
            let cell = results.cell(Measure::Rate, case, Candidate::Xdp);
            results.ratio(cell.expect("the cell")).expect("a ratio")
        };
        assert_eq!(
            (ratio("1k flows").median, ratio("1k flows").count),
            (5.0, 1)
        );
        assert_eq!(ratio("1k flows, 10k rules").median, 4.0);
    }
}
