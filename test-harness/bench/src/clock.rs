//! The monotonic clock that all processes of a host share; the scripted engine stamps tokens with it.

use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds since the host's start.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_moves_forward() {
        let before = super::now_ns();
        assert!(before > 0 && super::now_ns() >= before);
    }
}
