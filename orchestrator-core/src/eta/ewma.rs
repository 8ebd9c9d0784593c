//! A mean and spread that follow a changing quantity.

/// Weight of the newest sample once there are enough: the last ten or so count. Until then all
/// samples count the same, so that the first ones do not stick.
const WEIGHT: f64 = 0.1;

/// Exponentially weighted mean and variance of samples that are not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ewma {
    mean: f64,
    variance: f64,
    samples: u32,
}

impl Ewma {
    /// Takes one sample in. Negative and non-finite values are not measurements and are left out.
    pub fn add(&mut self, sample: f64) {
        if !sample.is_finite() || sample < 0.0 {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        let weight = f64::from(self.samples).recip().max(WEIGHT);
        let deviation = sample - self.mean;
        self.mean += weight * deviation;
        self.variance = (1.0 - weight) * (self.variance + weight * deviation * deviation);
    }

    /// The mean; `None` before the first sample.
    #[must_use]
    pub const fn mean(&self) -> Option<f64> {
        if self.samples == 0 { None } else { Some(self.mean) }
    }

    /// The standard deviation; `None` before the second sample.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        (self.samples > 1).then(|| self.variance.max(0.0).sqrt())
    }

    /// The spread as a share of the mean; 0 before the second sample or around zero.
    #[must_use]
    pub fn relative_spread(&self) -> f64 {
        let spread = self.spread().unwrap_or(0.0);
        if self.mean > 0.0 { spread / self.mean } else { 0.0 }
    }

    /// Samples taken in so far.
    #[must_use]
    pub const fn samples(&self) -> u32 {
        self.samples
    }
}
