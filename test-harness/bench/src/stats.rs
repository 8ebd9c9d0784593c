//! Medians, spread, percentiles. Pure.

use serde::Serialize;

/// The samples of one figure, in the order they were taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// At least one sample is needed; without any the median is not a number.
    pub(crate) fn new(samples: impl IntoIterator<Item = f64>) -> Self {
        Self(samples.into_iter().collect())
    }

    /// The middle one, or the mean of the middle two.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.get(middle) {
            None => f64::NAN,
            Some(upper) if sorted.len() % 2 == 1 => *upper,
            Some(upper) => f64::midpoint(sorted[middle - 1], *upper),
        }
    }

    /// The smallest and the largest.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let end = |end: Option<&f64>| end.copied().unwrap_or(f64::NAN);
        (end(sorted.first()), end(sorted.last()))
    }

    /// Sample by sample over those of `other`, which were taken in turn with these: what disturbed both falls out.
    pub(crate) fn ratios_to(&self, other: &Self) -> Self {
        Self::new(self.0.iter().zip(&other.0).map(|(one, other)| one / other))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// The value that `percent` % of the values do not exceed (nearest rank); 0 without values.
pub(crate) fn percentile(sorted: &[u64], percent: f64) -> u64 {
    // Float to integer conversion saturates, and the rank is at least 1.
    let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted
        .get(rank.min(sorted.len()).saturating_sub(1))
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn medians_and_spread() {
        assert_eq!(Samples::new([3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Samples::new([4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(Samples::new([3.0, 1.0, 2.0]).spread(), (1.0, 3.0));
        assert!(Samples::new([]).median().is_nan());
    }

    #[test]
    fn ratios_are_paired() {
        let ratios = Samples::new([2.0, 6.0]).ratios_to(&Samples::new([1.0, 2.0]));
        assert_eq!(ratios, Samples::new([2.0, 3.0]));
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(
            [0.0, 50.0, 99.0, 99.9, 100.0].map(|p| percentile(&values, p)),
            [1, 50, 99, 100, 100]
        );
        assert_eq!((percentile(&[7], 50.0), percentile(&[], 50.0)), (7, 0));
    }

    proptest! {
        #[test]
        fn a_percentile_is_one_of_the_values_and_splits_them(
            mut values in proptest::collection::vec(0_u64..1000, 1..50), percent in 0.0_f64..=100.0,
        ) {
            values.sort_unstable();
            let found = percentile(&values, percent);
            let not_above = values.iter().filter(|value| **value <= found).count();
            prop_assert!(values.contains(&found));
            prop_assert!(not_above as f64 >= percent / 100.0 * values.len() as f64 - 1e-9);
        }

        #[test]
        fn the_median_lies_within_the_spread(values in proptest::collection::vec(-1e6_f64..1e6, 1..20)) {
            let samples = Samples::new(values);
            let (low, high) = samples.spread();
            prop_assert!(low <= samples.median() && samples.median() <= high);
        }
    }
}
