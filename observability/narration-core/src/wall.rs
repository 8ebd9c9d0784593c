//! The wall clock. The only place that reads it: stamps for people, never a timeout or an order
//! (those use the monotonic clock, which no clock change can move).

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, for a stamp.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970-01-01T00:00:00Z; 0 while the clock is set before that.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_is_set_after_this_was_written() {
        assert!(super::unix_ms() > 1_700_000_000_000);
    }
}
