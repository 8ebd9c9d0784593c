//! When a refused client is to try again.

/// When a place frees, ms from now: when the first of the running tasks ends.
///
/// Each running task is what is left of it, if known, and for how long it has run, ms. While no
/// duration was measured, the longest elapsed time of what runs is taken: a lower bound of how long
/// a task holds a slot, not a prediction. `None` when nothing runs.
pub fn first_end_ms(running: impl IntoIterator<Item = (Option<u64>, u64)>) -> Option<u64> {
    let (mut first_end, mut longest) = (None, None);
    for (remaining, elapsed) in running {
        first_end = earlier(first_end, remaining);
        longest = longest.max(Some(elapsed));
    }
    first_end.or(longest)
}

/// When to try again what is expected to be possible in `wait_ms`: clients refused at the same
/// moment are spread over as long again by `jitter`, drawn by the caller from [0, 1). Never at once.
#[must_use]
pub fn retry_after_ms(wait_ms: u64, jitter: f64) -> u64 {
    let wait = wait_ms.max(1);
    // Converting to an integer saturates, and makes 0 of NaN.
    let spread = (wait as f64 * jitter.clamp(0.0, 1.0)) as u64;
    wait.saturating_add(spread)
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (known, None) | (None, known) => known,
    }
}
