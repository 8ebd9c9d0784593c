//! The clock that notices when tokens stop coming. Bytes are no progress: llama.cpp keeps sending comment lines while it
//! computes nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Measures how long a reader has been kept waiting for a token. The reader's own pauses do not count.
///
/// One timer serves all waits of a stream: it is moved when it fires too early, not at every token.
#[derive(Debug)]
pub(crate) struct Watchdog {
    limit: Duration,
    since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl Watchdog {
    /// Waits since `since`, for at most `limit`.
    pub(crate) fn new(since: Instant, limit: Duration) -> Self {
        Self {
            limit,
            since: Some(since),
            timer: Box::pin(sleep_until(since + limit)),
        }
    }

    /// The wait is over. The next one begins when the reader asks again, and may last `limit`.
    pub(crate) const fn restart(&mut self, limit: Duration) {
        self.limit = limit;
        self.since = None;
    }

    /// Ready with the limit once the present wait has lasted that long.
    pub(crate) fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit;
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= deadline {
                return Poll::Ready(self.limit);
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_first_wait_began_before_the_watchdog() {
        let since = Instant::now();
        tokio::time::advance(3 * SECOND).await;
        let mut watchdog = Watchdog::new(since, 5 * SECOND);
        assert_eq!(poll_fn(|cx| watchdog.poll_exceeded(cx)).await, 5 * SECOND);
        assert_eq!(since.elapsed(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_limit_brings_the_timer_forward() {
        let mut watchdog = Watchdog::new(Instant::now(), 100 * SECOND);
        watchdog.restart(SECOND);
        let since = Instant::now();
        poll_fn(|cx| watchdog.poll_exceeded(cx)).await;
        assert_eq!(since.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_reader_is_not_the_engines() {
        let mut watchdog = Watchdog::new(Instant::now(), 2 * SECOND);
        watchdog.restart(2 * SECOND);
        tokio::time::advance(60 * SECOND).await;
        let since = Instant::now();
        poll_fn(|cx| watchdog.poll_exceeded(cx)).await;
        assert_eq!(since.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_on_over_wakes_that_bring_no_token() {
        let mut watchdog = Watchdog::new(Instant::now(), 3 * SECOND);
        let since = Instant::now();
        for _ping in 0..2 {
            let waited = tokio::time::timeout(SECOND, poll_fn(|cx| watchdog.poll_exceeded(cx))).await;
            assert!(waited.is_err());
        }
        poll_fn(|cx| watchdog.poll_exceeded(cx)).await;
        assert_eq!(since.elapsed(), 3 * SECOND);
    }
}
