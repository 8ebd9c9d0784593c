//! Runs the tasks ahead through the slots on paper.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::service::Expected;

/// Stands for "not known when": sorts after every known time, and adding to it leaves it there.
const UNKNOWN: u64 = u64::MAX;

/// A running task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Since it got its slot, ms.
    pub elapsed_ms: u64,
    /// Its expected duration; `None` until measured.
    pub expected: Option<Expected>,
}

impl Running {
    /// How long it will go on, ms. One that is overdue is expected to take as long again as
    /// durations typically differ: it is late for a reason, and "now" would be wrong every time.
    #[must_use]
    pub fn remaining_ms(&self) -> Option<u64> {
        let expected = self.expected?;
        let left = expected.mean_ms.saturating_sub(self.elapsed_ms);
        Some(if left == 0 { expected.spread_ms } else { left })
    }
}

/// A slot that may take the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Without a lease.
    Free,
    /// With a running task.
    Leased(Running),
}

impl Slot {
    fn free_in_ms(&self) -> u64 {
        match self {
            Self::Free => 0,
            Self::Leased(running) => running.remaining_ms().unwrap_or(UNKNOWN),
        }
    }
}

/// When a task starts and ends, ms from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// When it gets a slot.
    pub start_ms: u64,
    /// When it ends; `None` until durations were measured.
    pub end_ms: Option<u64>,
}

/// Predicts one task: the tasks ahead, in order, each take the slot that frees first and hold it
/// for their expected duration, then it is the task's turn. `None` when that cannot be told from
/// what was measured; with a free slot for it, it starts now and nothing need be measured.
///
/// Costs O((slots + ahead) · log slots).
pub fn predict(
    slots: impl IntoIterator<Item = Slot>,
    ahead: impl IntoIterator<Item = Option<Expected>>,
    own: Option<Expected>,
) -> Option<Estimate> {
    let mut free_in: BinaryHeap<Reverse<u64>> =
        slots.into_iter().map(|slot| Reverse(slot.free_in_ms())).collect();
    for task in ahead {
        let mut first = free_in.peek_mut()?;
        let lasts = task.map_or(UNKNOWN, |expected| expected.mean_ms);
        first.0 = first.0.saturating_add(lasts);
    }
    let Reverse(start_ms) = free_in.pop()?;
    (start_ms != UNKNOWN).then(|| Estimate {
        start_ms,
        end_ms: own.map(|expected| start_ms.saturating_add(expected.mean_ms)),
    })
}

/// When to try a full queue again, ms from now: a place frees when the first of the running tasks
/// ends. Clients refused at the same moment are spread over as long again by `jitter`, drawn by
/// the caller from [0, 1).
///
/// While no duration was measured, the longest elapsed time of what runs is taken: a lower bound
/// of how long a task holds a slot, not a prediction. `None` when nothing runs.
pub fn retry_after_ms(running: impl IntoIterator<Item = Running>, jitter: f64) -> Option<u64> {
    let (mut first_end, mut longest) = (None, None);
    for task in running {
        first_end = earlier(first_end, task.remaining_ms());
        longest = longest.max(Some(task.elapsed_ms));
    }
    let wait = first_end.or(longest)?.max(1);
    // Converting to an integer saturates, and makes 0 of NaN.
    let spread = (wait as f64 * jitter.clamp(0.0, 1.0)) as u64;
    Some(wait.saturating_add(spread))
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (known, None) | (None, known) => known,
    }
}
