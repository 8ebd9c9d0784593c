//! How long to wait after a failed report. Pure.

use std::time::Duration;

/// First pause: a restarting orchestrator is back within a second or two.
const FIRST: Duration = Duration::from_millis(250);

/// Longest pause: what an operator waits at most after having fixed a token or started the orchestrator.
const LONGEST: Duration = Duration::from_secs(10);

/// Pauses that double to a cap, each drawn from its upper half so that nodes do not knock in step.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
}

impl Pause {
    /// The pause after one more failure.
    pub(super) fn next(&mut self, entropy: u64) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let full = FIRST.saturating_mul(doubled).min(LONGEST);
        let half = full / 2;
        let share = u32::try_from(entropy % 1001).unwrap_or(0);
        half + half * share / 1000
    }

    /// A report was accepted.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_to_the_cap_and_never_beyond(seeds in proptest::collection::vec(any::<u64>(), 1..40)) {
            let mut pause = Pause::default();
            for (failure, seed) in seeds.into_iter().enumerate() {
                let full = (FIRST * 2_u32.pow(failure.min(10) as u32)).min(LONGEST);
                let drawn = pause.next(seed);
                prop_assert!(full / 2 <= drawn && drawn <= full, "{failure}: {drawn:?}");
            }
            pause.reset();
            prop_assert!(pause.next(0) < FIRST);
        }
    }
}
