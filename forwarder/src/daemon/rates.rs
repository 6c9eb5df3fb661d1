//! How often reasons occur: what they counted a while ago.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Over how long a rate is taken at most.
const SPAN: Duration = Duration::from_secs(30);
/// Readings closer together than this say nothing new.
const APART: Duration = Duration::from_secs(1);
/// Over a shorter time a single packet would look like a flood.
const LEAST: Duration = Duration::from_secs(1);

/// Readings of the same counters, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rates(VecDeque<(Instant, Vec<u64>)>);

impl Rates {
    /// Notes what was counted at `now`.
    pub(super) fn note(&mut self, now: Instant, counts: Vec<u64>) {
        if self.0.back().is_some_and(|(last, _)| now - *last < APART) {
            return;
        }
        self.0.push_back((now, counts));
        // One that is older than the span is needed while no younger one spans it.
        while self.0.get(1).is_some_and(|(next, _)| now - *next >= SPAN) {
            self.0.pop_front();
        }
    }

    /// By how much each of `counts` has grown a second since the oldest reading.
    pub(super) fn of(&self, now: Instant, counts: &[u64]) -> Vec<f64> {
        let Some((then, before)) = self.0.front() else {
            return vec![0.0; counts.len()];
        };
        let seconds = (now - *then).max(LEAST).as_secs_f64();
        let pairs = counts.iter().zip(before);
        let rates = pairs.map(|(count, before)| count.saturating_sub(*before) as f64 / seconds);
        rates.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_half_minute() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rates = Rates::default();
        assert_eq!(rates.of(start, &[7]), [0.0]);
        rates.note(at(0), vec![1000]);
        // Too soon after the one before.
        rates.note(start + Duration::from_millis(10), vec![5000]);
        assert_eq!(rates.of(at(10), &[1100]), [10.0]);
        for tens in 1..=6 {
            rates.note(at(10 * tens), vec![1000 + tens]);
        }
        assert_eq!(rates.0.front().map(|(then, _)| *then), Some(at(30)));
        assert_eq!(rates.of(at(63), &[1036]), [1.0]);
        // Counters that began anew.
        assert_eq!(rates.of(at(63), &[0]), [0.0]);
    }
}
