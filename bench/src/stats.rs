//! Medians, spreads and quantiles.

/// What a number of rounds came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// The middle; the mean of the two in the middle if there are two.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Summary {
    /// Of all that are numbers; `None` if there is none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().filter(|it| it.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let count = sorted.len();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2.0;
        Some(Self {
            min,
            median,
            max,
            count,
        })
    }
}

/// Each round's quotient of two candidates: what a busy machine does to a round it does to both.
#[must_use]
pub fn paired(of: &[Option<f64>], by: &[Option<f64>]) -> Option<Summary> {
    let pairs = of.iter().zip(by);
    Summary::of(pairs.filter_map(|(of, by)| Some((*of)? / (*by)?)))
}

/// The bucket in which a quantile lies, of counts by bucket; `None` if nothing was counted.
#[must_use]
pub fn quantile(counts: &[u64], quantile: f64) -> Option<usize> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let summary = Summary::of([3.0, 1.0, 2.0]).expect("three numbers");
        assert_eq!((summary.min, summary.median, summary.max), (1.0, 2.0, 3.0));
        let summary = Summary::of([4.0, 1.0, 2.0, 3.0]).expect("four numbers");
        assert_eq!((summary.median, summary.count), (2.5, 4));
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN, f64::INFINITY]), None);
        let summary = Summary::of([f64::NAN, 7.0]).expect("one number");
        assert_eq!((summary.median, summary.count), (7.0, 1));
    }

    #[test]
    fn quotients_are_of_the_same_round() {
        let slow_second_round = [Some(10.0), Some(1.0), None];
        let baseline = [Some(5.0), Some(0.5), Some(1.0)];
        let summary = paired(&slow_second_round, &baseline).expect("two pairs");
        assert_eq!((summary.min, summary.max, summary.count), (2.0, 2.0, 2));
    }

    #[test]
    fn quantiles_count_from_below() {
        let counts = [0, 50, 49, 0, 1];
        assert_eq!(quantile(&counts, 0.5), Some(1));
        assert_eq!(quantile(&counts, 0.51), Some(2));
        assert_eq!(quantile(&counts, 0.99), Some(2));
        assert_eq!(quantile(&counts, 0.999), Some(4));
        assert_eq!(quantile(&[0, 0], 0.5), None);
    }
}
