//! Results for people.

use std::fmt::Write as _;

use crate::gateway::Candidate;
use crate::measure::Measure;
use crate::results::{Cell, Results};
use crate::stats::Summary;

/// All tables.
#[must_use]
pub fn render(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "Linux {}, {}, {} CPUs; {} rounds; median [smallest, largest], and the quotient with {} of the same rounds\n",
        machine.kernel,
        machine.processor,
        machine.cpus,
        results.rounds,
        Candidate::BASELINE,
    );
    text += &idle(results);
    let shown = Measure::ALL.into_iter().filter(|it| *it != Measure::Idle);
    for measure in shown {
        for case in results.cases(measure) {
            let _ = write!(text, "\n{}: {case}\n", measure.heading());
            for candidate in Candidate::ALL {
                if let Some(cell) = results.cell(measure, case, candidate) {
                    let _ = writeln!(text, "{}", row(results, cell));
                }
            }
        }
    }
    for absent in &results.absent {
        let reason = absent.reason.lines().next().unwrap_or_default();
        let _ = write!(text, "\n{}: {reason}", absent.candidate);
    }
    for note in &results.notes {
        let _ = write!(text, "\n{note}");
    }
    text + "\n"
}

/// How busy the machine was with other things.
fn idle(results: &Results) -> String {
    let cells = results.cells.iter();
    let all = cells.filter(|cell| cell.measure == Measure::Idle);
    let summary = Summary::of(all.flat_map(|cell| cell.samples.iter().copied().flatten()));
    summary.map_or_else(String::new, |it| {
        format!(
            "in a flood the gateway was without work {:.0} % of the time [{:.0}, {:.0}]: above a few per cent others had its \
             CPU or the generator's, and CPU per packet is to be trusted, not packets a second\n",
            it.median, it.min, it.max
        )
    })
}

fn row(results: &Results, cell: &Cell) -> String {
    let Some(summary) = cell.summary() else {
        return format!("  {:<16} failed in every round", cell.candidate);
    };
    let Summary {
        min, median, max, ..
    } = summary;
    let mut line = format!(
        "  {:<16} {:>10} [{}, {}]",
        cell.candidate,
        number(median),
        number(min),
        number(max)
    );
    if let Some(ratio) = results.ratio(cell) {
        let pad = 46_usize.saturating_sub(line.chars().count());
        let _ = write!(
            line,
            "{:pad$} {:>6.2}× [{:.2}, {:.2}]",
            "", ratio.median, ratio.min, ratio.max
        );
    }
    let failed = cell.samples.len() - summary.count;
    if failed > 0 {
        let _ = write!(line, "  ({failed} rounds failed)");
    }
    line
}

/// Three digits that mean something.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        it if it >= 999_500.0 => format!("{:.2}M", value / 1e6),
        it if it >= 99_950.0 => format!("{:.0}k", value / 1e3),
        it if it >= 9_995.0 => format!("{:.1}k", value / 1e3),
        it if it >= 99.95 => format!("{value:.0}"),
        it if it >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0.00"),
            (6.125, "6.12"),
            (13.84, "13.8"),
            (412.4, "412"),
            (8_512.0, "8512"),
            (62_010.0, "62.0k"),
            (999_400.0, "999k"),
            (999_600.0, "1.00M"),
            (1_778_915.0, "1.78M"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
