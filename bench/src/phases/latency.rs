//! How long a packet takes, by the time it carries.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::in_turn;
use crate::count::FINE;
use crate::measure::Measure;
use crate::plan::{Pace, Traffic};
use crate::session::{Contender, Session};
use crate::stats::{Summary, quantile};

/// Flows of this traffic.
const FLOWS: u32 = 1000;

/// Nanoseconds between packets at low load.
const LOW: u32 = 100_000;

/// The part of its best rate that a gateway is loaded with.
const LOAD: f64 = 0.7;

/// Of what is reported.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")];

/// The case of [`Measure::Rate`] that the load is a part of.
const BEST: &str = "1k flows";

pub(super) fn round(session: &mut Session, contenders: &mut [Contender], round: usize) {
    for contender in in_turn(contenders, round) {
        let cell = session
            .results
            .cell(Measure::Rate, BEST, contender.candidate);
        let best = cell.and_then(crate::results::Cell::summary);
        let loaded = best.map(|it: Summary| (1e9 / (it.median * LOAD)) as u32);
        let loads = [("low load", Some(LOW)), ("70 % load", loaded)];
        for (load, gap) in loads {
            let Some(gap) = gap else { continue };
            let outcome = look(contender, gap, session.time() * 2);
            let outcome = outcome.map_err(|error| error.context(load));
            let values =
                outcome.inspect_err(|error| eprintln!("  {}: {error:#}", contender.candidate));
            for (index, (_, name)) in QUANTILES.iter().enumerate() {
                let value = values.as_ref().ok().map(|it| it[index]);
                let case = format!("{load}, {name}");
                let results = &mut session.results;
                results.record(Measure::Latency, &case, contender.candidate, value);
            }
        }
    }
}

/// The quantiles in microseconds.
fn look(contender: &mut Contender, gap: u32, time: Duration) -> Result<[f64; 3]> {
    let traffic = Traffic {
        pace: Pace::Every(gap),
        stamp: true,
        ..contender.traffic(FLOWS)
    };
    let destination = contender.destination(&traffic);
    let counts = contender.rig.during(&traffic, destination, |programs| {
        std::thread::sleep(time / 4);
        let before = programs.latency()?;
        std::thread::sleep(time);
        let after = programs.latency()?;
        Ok(after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect::<Vec<_>>())
    })?;
    let mut values = [0.0; 3];
    for (value, (part, _)) in values.iter_mut().zip(QUANTILES) {
        let bucket = quantile(&counts, part).context("no packet with a time has arrived")?;
        *value = middle(bucket as u32) / 1000.0;
    }
    Ok(values)
}

/// The middle of a bucket in nanoseconds: the inverse of [`crate::count::bucket`].
fn middle(bucket: u32) -> f64 {
    let shift = (bucket >> FINE).saturating_sub(1);
    let mantissa = bucket - (shift << FINE);
    (f64::from(mantissa) + 0.5) * f64::from(1_u32 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::{BUCKETS, bucket};

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = 0;
        for time in [0, 1, 31, 32, 63, 64, 65, 1000, 1_000_000, u32::MAX] {
            let bucket = bucket(time);
            assert!(bucket >= last && bucket < BUCKETS, "{time} is in {bucket}");
            let error = (middle(bucket) - f64::from(time)).abs();
            assert!(
                error <= 1.0 + f64::from(time) * 0.032,
                "{time}: {}",
                middle(bucket)
            );
            last = bucket;
        }
    }
}
