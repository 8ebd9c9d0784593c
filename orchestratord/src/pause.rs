//! When clients that are turned away are to come back: what the dispatcher expects, for refusals that are made where
//! nothing is known of tasks and pools (ORCH-3106).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_front::RetryAdvice;
use orchestrator_core::eta::retry_after_ms;

use crate::jitter::jitter;

/// No wait is as long.
const UNKNOWN: u64 = u64::MAX;

/// The expected wait, written by the dispatcher, read by whoever refuses.
#[derive(Debug, Clone)]
pub struct Pause(Arc<AtomicU64>);

impl Default for Pause {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNKNOWN)))
    }
}

impl Pause {
    /// So long until things will have changed, ms, as far as known.
    pub fn expect(&self, wait_ms: Option<u64>) {
        self.0.store(wait_ms.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    /// The same for one client, with jitter.
    #[must_use]
    pub fn for_one(&self) -> Option<u64> {
        let wait = self.0.load(Ordering::Relaxed);
        (wait != UNKNOWN).then(|| retry_after_ms(wait, jitter()))
    }

    /// The same as the front asks for it.
    #[must_use]
    pub fn advice(&self) -> RetryAdvice {
        let pause = self.clone();
        RetryAdvice::new(move || pause.for_one())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_told() {
        let pause = Pause::default();
        assert_eq!(pause.for_one(), None);
        pause.expect(Some(400));
        let told = pause.for_one().unwrap();
        assert!((400..=800).contains(&told), "{told}");
        pause.expect(None);
        assert_eq!(pause.for_one(), None);
    }
}
