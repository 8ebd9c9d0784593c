//! The one source of jitter: spreads clients that are refused at the same moment.

use uuid::Uuid;

/// A fresh number in [0, 1).
#[must_use]
pub fn jitter() -> f64 {
    let random = Uuid::new_v4().as_u128() as u32;
    f64::from(random) / (f64::from(u32::MAX) + 1.0)
}
