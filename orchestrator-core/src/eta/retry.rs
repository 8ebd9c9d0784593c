//! When a refused client is to try again.

/// When to try a full queue again, ms from now: a place frees when the first of the running tasks
/// ends. Clients refused at the same moment are spread over as long again by `jitter`, drawn by
/// the caller from [0, 1).
///
/// Each running task is what is left of it, if known, and for how long it has run, ms. While no
/// duration was measured, the longest elapsed time of what runs is taken: a lower bound of how long
/// a task holds a slot, not a prediction. `None` when nothing runs.
pub fn retry_after_ms(running: impl IntoIterator<Item = (Option<u64>, u64)>, jitter: f64) -> Option<u64> {
    let (mut first_end, mut longest) = (None, None);
    for (remaining, elapsed) in running {
        first_end = earlier(first_end, remaining);
        longest = longest.max(Some(elapsed));
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
