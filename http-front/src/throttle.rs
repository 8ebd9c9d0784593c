//! Log lines about what hostile or broken clients do, at most one per period and kind.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// One line per kind and period: enough to see an attack, too little to fill a disk.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts what is not logged.
#[derive(Debug)]
pub(crate) struct Throttle {
    start: Instant,
    /// Periods since the start in which a line was last written, plus one; 0 = never.
    last: AtomicU64,
    silent: AtomicU64,
}

impl Throttle {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            silent: AtomicU64::new(0),
        }
    }

    /// `Some(n)` when a line may be written now; `n` were left out since the one before.
    pub(crate) fn allow(&self) -> Option<u64> {
        let period = self.start.elapsed().as_secs() / PERIOD.as_secs() + 1;
        if self.last.swap(period, Ordering::Relaxed) == period {
            self.silent.fetch_add(1, Ordering::Relaxed);
            None
        } else {
            Some(self.silent.swap(0, Ordering::Relaxed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_period_and_none_forgotten() {
        let throttle = Throttle::new();
        assert_eq!(throttle.allow(), Some(0));
        assert_eq!((throttle.allow(), throttle.allow()), (None, None));
        tokio::time::advance(PERIOD).await;
        assert_eq!(throttle.allow(), Some(2));
    }
}
