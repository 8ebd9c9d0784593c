//! A straight line that follows changing points: what a prompt costs is a fixed part and a part per
//! token.

/// Weight of the newest point once there are enough. A slope needs more points than a mean.
const WEIGHT: f64 = 1.0 / 32.0;

/// Points whose x differ by less than this share of their mean say nothing about a slope.
const SPREAD_NEEDED: f64 = 0.1;

/// Exponentially weighted least squares of points that are not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Line {
    points: u32,
    mean_x: f64,
    mean_y: f64,
    var_x: f64,
    covariance: f64,
    /// Mean square of the relative distance from the line before each point was taken in.
    miss: f64,
    missed: u32,
}

impl Line {
    /// Takes a point in. Negative and non-finite values are not measurements and are left out.
    pub(super) fn add(&mut self, x: f64, y: f64) {
        if !(x.is_finite() && y.is_finite() && x >= 0.0 && y >= 0.0) {
            return;
        }
        self.judge(x, y);
        self.points = self.points.saturating_add(1);
        let weight = f64::from(self.points).recip().max(WEIGHT);
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += weight * dx;
        self.mean_y += weight * dy;
        self.var_x = (1.0 - weight) * (self.var_x + weight * dx * dx);
        self.covariance = (1.0 - weight) * (self.covariance + weight * dx * dy);
    }

    fn judge(&mut self, x: f64, y: f64) {
        let Some(told) = self.at(x).filter(|told| *told > 0.0) else {
            return;
        };
        // One outlier must not count more than a task that took twice as long as told.
        let miss = ((y - told) / told).min(1.0);
        self.missed = self.missed.saturating_add(1);
        let weight = f64::from(self.missed).recip().max(WEIGHT);
        self.miss += weight * (miss * miss - self.miss);
    }

    /// The line at `x`; `None` before the first point.
    pub(super) fn at(&self, x: f64) -> Option<f64> {
        if self.points == 0 {
            return None;
        }
        let (base, slope) = self.base_and_slope();
        Some(base + slope * x)
    }

    /// Typical relative distance of a point from the line; 0 before the second point.
    pub(super) fn relative_spread(&self) -> f64 {
        self.miss.sqrt()
    }

    /// Neither is negative: a longer prompt never takes less time, and no prompt takes none back.
    /// Without differing points the line goes through the origin.
    fn base_and_slope(&self) -> (f64, f64) {
        let through_origin = if self.mean_x > 0.0 {
            (0.0, self.mean_y / self.mean_x)
        } else {
            (self.mean_y, 0.0)
        };
        if self.var_x.sqrt() <= SPREAD_NEEDED * self.mean_x || self.mean_x <= 0.0 {
            return through_origin;
        }
        let slope = self.covariance / self.var_x;
        let base = self.mean_y - slope * self.mean_x;
        if slope <= 0.0 {
            (self.mean_y, 0.0)
        } else if base < 0.0 {
            through_origin
        } else {
            (base, slope)
        }
    }
}
