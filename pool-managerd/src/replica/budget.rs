//! When an engine that ended may be started again. Pure: the time and the randomness come in as arguments.
//!
//! The pause doubles with every restart inside the window up to a cap, with jitter so that engines that died
//! together do not start together; a window without restarts forgets them all. One failure more than the
//! budget is final.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The policy (`pool_managerd.pools[].restart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// First pause.
    pub initial: Duration,
    /// Longest pause, before jitter.
    pub max: Duration,
    /// Restarts allowed within the window.
    pub budget: u32,
    /// The window.
    pub window: Duration,
}

/// The restarts of the current window.
#[derive(Debug)]
pub(super) struct RestartBudget {
    policy: RestartPolicy,
    restarts: VecDeque<Instant>,
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start again after this pause.
    RetryAfter(Duration),
    /// The budget is used up.
    Exhausted,
}

/// Jitter in percent, either way.
const JITTER_PERCENT: u32 = 20;

impl RestartBudget {
    pub(super) const fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            restarts: VecDeque::new(),
        }
    }

    /// Restarts within the window.
    pub(super) fn used(&mut self, now: Instant) -> u32 {
        while self.next_change().is_some_and(|at| at <= now) {
            self.restarts.pop_front();
        }
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }

    /// When [`RestartBudget::used`] will be less.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.restarts.front().map(|start| *start + self.policy.window)
    }

    /// An engine failed: spends a restart, if one is left.
    pub(super) fn spend(&mut self, now: Instant, entropy: u64) -> Verdict {
        let used = self.used(now);
        if used >= self.policy.budget {
            return Verdict::Exhausted;
        }
        let pause = jittered(self.policy.pause(used), entropy);
        self.restarts.push_back(now + pause);
        Verdict::RetryAfter(pause)
    }

    /// Forgets every restart: what failed has been replaced.
    pub(super) fn reset(&mut self) {
        self.restarts.clear();
    }
}

impl RestartPolicy {
    fn pause(&self, restarts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(restarts).unwrap_or(u32::MAX);
        self.initial.saturating_mul(doubled).min(self.max)
    }
}

/// `pause` ± [`JITTER_PERCENT`], by the 64 random bits of `entropy`.
fn jittered(pause: Duration, entropy: u64) -> Duration {
    let steps = u64::from(2 * JITTER_PERCENT) * 10 + 1;
    let per_mille = 1000 - u64::from(JITTER_PERCENT) * 10 + entropy % steps;
    pause.saturating_mul(u32::try_from(per_mille).unwrap_or(1000)) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(budget: u32) -> RestartPolicy {
        RestartPolicy {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(60),
            budget,
            window: Duration::from_secs(600),
        }
    }

    #[test]
    fn pauses_double_to_the_cap() {
        let pauses: Vec<u64> = (0..9).map(|n| policy(9).pause(n).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy(9).pause(1000), Duration::from_secs(60));
    }

    #[test]
    fn one_failure_more_than_the_budget_is_final_until_the_window_passes() {
        let start = Instant::now();
        let mut budget = RestartBudget::new(policy(2));
        assert!(matches!(budget.spend(start, 0), Verdict::RetryAfter(_)));
        assert!(matches!(budget.spend(start, 0), Verdict::RetryAfter(_)));
        assert_eq!(budget.spend(start, 0), Verdict::Exhausted);
        let later = start + Duration::from_secs(602);
        assert_eq!(budget.used(later), 0);
        assert_eq!(
            budget.spend(later, 400 / 2),
            Verdict::RetryAfter(Duration::from_millis(500))
        );
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds(pause_ms in 1_u64..600_000, entropy: u64) {
            let jittered = jittered(Duration::from_millis(pause_ms), entropy).as_secs_f64();
            let pause = Duration::from_millis(pause_ms).as_secs_f64();
            prop_assert!((0.799..=1.201).contains(&(jittered / pause)));
        }

        /// An engine that dies at once, for an hour: never more restarts in any window than allowed, pauses
        /// monotone up to jitter.
        /// ORCH-3423.
        /// REQ-FAULT-RESTART-STORM.
        #[test]
        fn a_crash_loop_stays_inside_the_budget(allowed in 0_u32..20, seeds in proptest::collection::vec(any::<u64>(), 60)) {
            let (start, policy) = (Instant::now(), policy(allowed));
            let mut budget = RestartBudget::new(policy);
            let (mut now, mut starts, mut last) = (start, Vec::new(), Duration::ZERO);
            for seed in seeds {
                match budget.spend(now, seed) {
                    Verdict::RetryAfter(pause) => {
                        prop_assert!(pause >= last.mul_f64(0.66), "{last:?} then {pause:?}");
                        prop_assert!(pause <= policy.max.mul_f64(1.21));
                        now += pause;
                        last = pause;
                        starts.push(now);
                    }
                    Verdict::Exhausted => break,
                }
            }
            for (at, first) in starts.iter().enumerate() {
                let within = starts[at..].iter().filter(|start| **start < *first + policy.window).count();
                prop_assert!(within <= allowed as usize);
            }
        }
    }
}
