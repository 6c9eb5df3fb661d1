//! What the forwarder has to reach, and what it should: a gate that is missed is a defect, a target that is missed wants an
//! explanation.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::gateway::Candidate::{self, Auto, Ceiling, IptablesLegacy, Tc, Xdp};
use crate::measure::Measure::{
    self, BulkCost, BulkTcp, Memory, Open, Program, Rate, Requests, WireTcp,
};
use crate::results::Results;
use crate::stats::{Summary, paired};
use crate::table::number;

/// Whose figures, and in which case.
type Of = (Candidate, &'static str);

/// How a figure comes about.
#[derive(Clone, Copy, Debug)]
enum Figure {
    /// Of more that is better: the former by the latter, round by round.
    Times(Measure, Of, Of),
    /// Of less that is better: the latter by the former, so that more is better here too.
    Saves(Measure, Of, Of),
    /// As it is; less is better.
    Itself(Measure, Of),
}

/// A line of the list.
struct Gate {
    work: &'static str,
    gate: f64,
    target: f64,
    figure: Figure,
}

const fn gate(work: &'static str, gate: f64, target: f64, figure: Figure) -> Gate {
    Gate {
        work,
        gate,
        target,
        figure,
    }
}

const fn against(measure: Measure, of: Candidate, case: &'static str) -> Figure {
    Figure::Times(measure, (of, case), (IptablesLegacy, case))
}

const UDP_1: &str = "UDP, 1 rule";
const UDP_10K: &str = "UDP, 10k rules";
const SYN_1: &str = "TCP SYN, 1 rule";
const SYN_10K: &str = "TCP SYN, 10k rules";

/// All of them, quotients with iptables-legacy unless they say otherwise.
const GATES: [Gate; 25] = [
    gate("XDP, 1 flow", 4.5, 6.0, against(Rate, Xdp, "1 flow")),
    gate("XDP, 1k flows", 4.5, 6.0, against(Rate, Xdp, "1k flows")),
    gate(
        "share of the XDP ceiling, 1 flow",
        0.68,
        0.90,
        Figure::Times(Rate, (Xdp, "1 flow"), (Ceiling, "1 flow")),
    ),
    gate(
        "share of the XDP ceiling, 1k flows",
        0.68,
        0.90,
        Figure::Times(Rate, (Xdp, "1k flows"), (Ceiling, "1k flows")),
    ),
    gate(
        "XDP, 100k flows at random",
        3.3,
        4.5,
        against(Rate, Xdp, "100k flows"),
    ),
    gate(
        "XDP, 1M flows by our own 100k",
        0.75,
        0.90,
        Figure::Times(Rate, (Xdp, "1M flows"), (Xdp, "100k flows")),
    ),
    gate(
        "new flows, UDP, 1 rule",
        3.5,
        4.5,
        against(Open, Xdp, UDP_1),
    ),
    gate(
        "new flows, UDP, 10k rules each",
        80.0,
        100.0,
        against(Open, Xdp, UDP_10K),
    ),
    gate(
        "new flows, TCP SYN, 1 rule",
        3.5,
        4.5,
        against(Open, Xdp, SYN_1),
    ),
    gate(
        "new flows, TCP SYN, 10k rules each",
        80.0,
        100.0,
        against(Open, Xdp, SYN_10K),
    ),
    gate(
        "our 10k rules by our 1, packets",
        0.95,
        0.99,
        Figure::Times(Rate, (Xdp, "1k flows, 10k rules"), (Xdp, "1k flows")),
    ),
    gate(
        "our 10k rules by our 1, new flows",
        0.95,
        0.99,
        Figure::Times(Open, (Xdp, UDP_10K), (Xdp, UDP_1)),
    ),
    gate("TC, 1 flow", 1.6, 1.9, against(Rate, Tc, "1 flow")),
    gate("TC, 1k flows", 1.6, 1.9, against(Rate, Tc, "1k flows")),
    gate(
        "TC, 100k flows at random",
        1.6,
        1.9,
        against(Rate, Tc, "100k flows"),
    ),
    gate(
        "TC, bulk TCP in super-packets, Gb/s",
        1.0,
        1.2,
        against(BulkTcp, Tc, "1 flow"),
    ),
    gate(
        "TC, bulk TCP in super-packets, bytes by gateway CPU",
        1.0,
        1.2,
        Figure::Saves(BulkCost, (Tc, "1 flow"), (IptablesLegacy, "1 flow")),
    ),
    gate(
        "XDP, TCP of wire size, 1 flow",
        1.4,
        1.6,
        against(WireTcp, Xdp, "1 flow"),
    ),
    gate(
        "XDP, TCP of wire size, 16 flows",
        4.5,
        5.5,
        against(WireTcp, Xdp, "16 flows"),
    ),
    gate(
        "auto, connect-request-response",
        1.15,
        1.4,
        against(Requests, Auto, "64 bytes"),
    ),
    gate(
        "program less an empty one, 1 flow (ns)",
        50.0,
        28.0,
        Figure::Itself(Program, (Xdp, "1 flow")),
    ),
    gate(
        "program less an empty one, 100k flows (ns)",
        380.0,
        280.0,
        Figure::Itself(Program, (Xdp, "100k flows")),
    ),
    gate(
        "a packet that is not ours (ns)",
        20.0,
        8.0,
        Figure::Itself(Program, (Xdp, "not ours")),
    ),
    gate(
        "XDP, IPv6 by IPv4, 1k flows",
        0.90,
        0.97,
        Figure::Times(Rate, (Xdp, "1k flows, IPv6"), (Xdp, "1k flows")),
    ),
    gate(
        "memory per flow, 1M flows (B)",
        320.0,
        256.0,
        Figure::Itself(Memory, (Xdp, "UDP over IPv4, at 1M flows")),
    ),
];

/// What became of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At least what it should be.
    TargetMet,
    /// At least what it has to be.
    GateMet,
    /// A defect.
    Missed,
    /// This run has not measured it.
    NotMeasured,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::TargetMet => "target met",
            Self::GateMet => "gate met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        }
    }
}

/// A gate and how the run stands to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// What it is about.
    pub work: String,
    /// What it has to be: at least, or at most where `less_is_better`.
    pub gate: f64,
    /// What it should be.
    pub target: f64,
    /// Whether less is better.
    pub less_is_better: bool,
    /// The middle of all rounds, and both ends.
    pub median: Option<f64>,
    /// See `median`.
    pub min: Option<f64>,
    /// See `median`.
    pub max: Option<f64>,
    /// Whether that is enough, by the median.
    pub verdict: Verdict,
}

impl Gate {
    fn summary(&self, results: &Results) -> Option<Summary> {
        let samples = |measure, (candidate, case): Of| {
            let cell = results.cell(measure, case, candidate)?;
            Some(cell.samples.as_slice())
        };
        match self.figure {
            Figure::Times(measure, of, by) => paired(samples(measure, of)?, samples(measure, by)?),
            Figure::Saves(measure, of, by) => paired(samples(measure, by)?, samples(measure, of)?),
            Figure::Itself(measure, of) => {
                Summary::of(samples(measure, of)?.iter().copied().flatten())
            }
        }
    }

    fn judge(&self, results: &Results) -> Judged {
        let less_is_better = matches!(self.figure, Figure::Itself(..));
        let summary = self.summary(results);
        let reaches = |median: f64, bound: f64| {
            if less_is_better {
                median <= bound
            } else {
                median >= bound
            }
        };
        let verdict = match summary {
            None => Verdict::NotMeasured,
            Some(it) if reaches(it.median, self.target) => Verdict::TargetMet,
            Some(it) if reaches(it.median, self.gate) => Verdict::GateMet,
            Some(_) => Verdict::Missed,
        };
        Judged {
            work: self.work.to_owned(),
            gate: self.gate,
            target: self.target,
            less_is_better,
            median: summary.map(|it| it.median),
            min: summary.map(|it| it.min),
            max: summary.map(|it| it.max),
            verdict,
        }
    }
}

/// Holds a run against every gate.
#[must_use]
pub fn judge(results: &Results) -> Vec<Judged> {
    GATES.iter().map(|gate| gate.judge(results)).collect()
}

/// The same for people; nothing if the run is about none of them.
#[must_use]
pub fn render(results: &Results) -> String {
    let judged = judge(results);
    let measured = |it: &Judged| it.verdict != Verdict::NotMeasured;
    if !judged.iter().any(measured) {
        return String::new();
    }
    let mut text = format!(
        "\ngates, by the median of {} rounds; quotients with {IptablesLegacy} unless they say otherwise\n  {:<52} {:>6} {:>7}   median [smallest, largest]\n",
        results.rounds, "work", "gate", "target"
    );
    for it in judged {
        let sign = if it.less_is_better { "≤" } else { "≥" };
        let _ = write!(
            text,
            "  {:<52} {sign}{:>5} {sign}{:>6}   ",
            it.work, it.gate, it.target
        );
        if let (Some(median), Some(min), Some(max)) = (it.median, it.min, it.max) {
            let figures = format!("{} [{}, {}]", number(median), number(min), number(max));
            let _ = write!(text, "{figures:<24} ");
        }
        let _ = writeln!(text, "{}", it.verdict.word());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Machine;

    fn run(cells: &[(Measure, &str, Candidate, [f64; 3])]) -> Results {
        let mut results = Results::new(Machine::default(), 3, false);
        for (measure, case, candidate, samples) in cells {
            for sample in samples {
                results.record(*measure, case, *candidate, Some(*sample));
            }
        }
        results
    }

    fn verdict(results: &Results, work: &str) -> Verdict {
        let judged = judge(results);
        let found = judged.iter().find(|it| it.work == work);
        found.expect("a gate of this name").verdict
    }

    #[test]
    fn quotients_are_of_the_same_round_and_more_is_better() {
        let of = |ours| {
            run(&[
                (Rate, "1 flow", IptablesLegacy, [1.0, 2.0, 4.0]),
                (Rate, "1 flow", Xdp, ours),
            ])
        };
        for (ours, expected) in [
            ([6.0, 12.0, 24.0], Verdict::TargetMet),
            ([5.0, 10.0, 20.0], Verdict::GateMet),
            ([4.0, 8.0, 24.0], Verdict::Missed),
        ] {
            assert_eq!(verdict(&of(ours), "XDP, 1 flow"), expected, "{ours:?}");
        }
    }

    #[test]
    fn of_costs_less_is_better() {
        let results = run(&[
            (Program, "1 flow", Xdp, [40.0, 50.0, 90.0]),
            (Program, "not ours", Xdp, [7.0, 8.0, 9.0]),
            (BulkCost, "1 flow", Tc, [10.0; 3]),
            (BulkCost, "1 flow", IptablesLegacy, [13.0; 3]),
        ]);
        let program = "program less an empty one, 1 flow (ns)";
        assert_eq!(verdict(&results, program), Verdict::GateMet);
        let foreign = "a packet that is not ours (ns)";
        assert_eq!(verdict(&results, foreign), Verdict::TargetMet);
        let bulk = "TC, bulk TCP in super-packets, bytes by gateway CPU";
        assert_eq!(verdict(&results, bulk), Verdict::TargetMet);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let results = run(&[(Rate, "1 flow", Xdp, [6.0; 3])]);
        assert_eq!(verdict(&results, "XDP, 1 flow"), Verdict::NotMeasured);
        assert_eq!(render(&results), "");
    }

    #[test]
    fn gates_have_names_of_their_own_and_targets_are_harder() {
        for (index, gate) in GATES.iter().enumerate() {
            let less = matches!(gate.figure, Figure::Itself(..));
            assert!((gate.target < gate.gate) == less, "{}", gate.work);
            let twin = GATES[..index].iter().any(|it| it.work == gate.work);
            assert!(!twin, "{} is there twice", gate.work);
        }
    }
}
