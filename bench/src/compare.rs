//! Two runs side by side.

use std::fmt::Write as _;

use crate::measure::Measure;
use crate::results::{Cell, Results};
use crate::stats::Summary;
use crate::table::number;

/// What became of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each median lies beyond everything that the other run has measured.
    Better,
    /// The same, the other way.
    Worse,
    /// No difference that these runs can show.
    Same,
}

impl Verdict {
    fn of(measure: Measure, old: &Summary, new: &Summary) -> Self {
        let within = |it: f64, other: &Summary| other.min <= it && it <= other.max;
        let apart = !within(new.median, old) && !within(old.median, new);
        if !apart {
            return Self::Same;
        }
        let more = new.median > old.median;
        if more == measure.more_is_better() {
            Self::Better
        } else {
            Self::Worse
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Same => "",
        }
    }
}

/// Every cell that both runs have. Quotients with the baseline are compared where there are any: they stay what they
/// are when the machine is another or is busy.
#[must_use]
pub fn render(old: &Results, new: &Results) -> String {
    let mut text = format!(
        "compared with Linux {}, {}, {} rounds\n",
        old.machine.kernel, old.machine.processor, old.rounds
    );
    if old.machine != new.machine {
        text += "another machine: only the quotients with the baseline (×) say anything\n";
    }
    let shown = Measure::ALL.into_iter().filter(|it| *it != Measure::Idle);
    for measure in shown {
        for case in new.cases(measure) {
            let lines: Vec<_> = new
                .cells
                .iter()
                .filter(|cell| cell.measure == measure && cell.case == case)
                .filter_map(|cell| line(old, new, cell))
                .collect();
            if !lines.is_empty() {
                let _ = write!(text, "\n{}: {case}\n{}", measure.title(), lines.concat());
            }
        }
    }
    text
}

fn line(old: &Results, new: &Results, cell: &Cell) -> Option<String> {
    let earlier = old.cell(cell.measure, &cell.case, cell.candidate)?;
    let quotients = old.ratio(earlier).zip(new.ratio(cell));
    let is_baseline = quotients
        .is_some_and(|(old, new)| old.max == old.min && new.max == new.min && new.median == 1.0);
    let (unit, (before, after)) = match quotients {
        Some(pair) if !is_baseline => ("×", pair),
        _ => (cell.measure.unit(), (earlier.summary()?, cell.summary()?)),
    };
    let verdict = Verdict::of(cell.measure, &before, &after);
    Some(format!(
        "  {:<16} {:>9} → {:>9} {unit:<5} {:+6.1} %  {}\n",
        cell.candidate,
        number(before.median),
        number(after.median),
        (after.median / before.median - 1.0) * 100.0,
        verdict.word()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Candidate;
    use crate::results::Machine;

    fn run(baseline: [f64; 3], ours: [f64; 3]) -> Results {
        let mut results = Results::new(Machine::default(), 3, false);
        for (candidate, values) in [
            (Candidate::IptablesLegacy, baseline),
            (Candidate::Xdp, ours),
        ] {
            for value in values {
                results.record(Measure::Rate, "1 flow", candidate, Some(value));
            }
        }
        results
    }

    #[test]
    fn a_slower_machine_is_no_change() {
        let old = run([10.0, 11.0, 12.0], [50.0, 55.0, 60.0]);
        let new = run([5.0, 5.5, 6.0], [25.0, 27.5, 30.0]);
        let text = render(&old, &new);
        let ours = text.lines().find(|line| line.contains("forwarder XDP"));
        let ours = ours.expect("a line for the forwarder");
        assert!(ours.contains("5.00 →") && ours.contains("+0.0 %"), "{ours}");
    }

    #[test]
    fn a_change_beyond_the_spread_is_told() {
        let old = run([10.0; 3], [50.0, 52.0, 54.0]);
        let worse = run([10.0; 3], [30.0, 32.0, 34.0]);
        let line = |text: &str| -> String {
            let mut lines = text.lines();
            let found = lines.find(|line| line.contains("forwarder XDP"));
            found.expect("a line").to_owned()
        };
        assert!(line(&render(&old, &worse)).contains("WORSE"));
        assert!(line(&render(&worse, &old)).contains("better"));
        let near = run([10.0; 3], [49.0, 51.0, 53.0]);
        assert!(!line(&render(&old, &near)).contains("better"));
    }

    #[test]
    fn less_is_better_where_it_is() {
        let summary = |median| Summary {
            min: median - 1.0,
            median,
            max: median + 1.0,
            count: 3,
        };
        let verdict = |measure| Verdict::of(measure, &summary(10.0), &summary(20.0));
        assert_eq!(verdict(Measure::Rate), Verdict::Better);
        assert_eq!(verdict(Measure::Latency), Verdict::Worse);
    }
}
