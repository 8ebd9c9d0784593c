//! The latency distribution of one relay, at chosen percentiles. Pure.

use serde::Serialize;

/// Where the curve is drawn: evenly in "nines", which is where latencies differ.
const PERCENTS: [f64; 16] = [
    0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.0, 98.0, 99.0, 99.5, 99.7, 99.9, 99.95, 99.97, 99.99,
];

/// Ages of tokens at their receipt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Distribution {
    /// What ran.
    pub(crate) group: String,
    /// Through whom.
    pub(crate) name: String,
    /// Percentile and age in µs.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Distribution {
    /// Samples a distribution at the usual percentiles.
    pub(crate) fn new(group: String, name: &str, age_us: impl Fn(f64) -> f64) -> Self {
        let points = PERCENTS
            .iter()
            .map(|percent| (*percent, age_us(*percent)))
            .collect();
        Self {
            group,
            name: name.to_owned(),
            points,
        }
    }
}
