//! Waits that are looked at far more often than they run out: a stream is polled for every token, its limits pass
//! hardly ever. Owns timers; knows nothing of what is waited for.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that the same task may poll again and again for the price of one load: it is registered once per waker.
#[derive(Debug)]
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whom the timer wakes.
    told: Option<Waker>,
}

impl Alarm {
    /// Rings at `deadline`.
    #[must_use]
    pub fn at(deadline: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(deadline)),
            told: None,
        }
    }

    /// When it rings.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.sleep.deadline()
    }

    /// Moves it.
    pub fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(deadline);
        self.told = None;
    }

    /// Ready once the deadline has passed.
    pub fn poll_rung(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let told = self.told.as_ref().is_some_and(|told| told.will_wake(cx.waker()));
        if told && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        // A task that has used up its budget is not registered, only asked to come again.
        let registers = coop::has_budget_remaining();
        let rung = self.sleep.as_mut().poll(cx);
        self.told = (rung.is_pending() && registers).then(|| cx.waker().clone());
        rung
    }
}

/// Measures how long a reader has been kept waiting. The reader's own pauses do not count.
///
/// One timer serves all waits of a stream: it is moved when it rings too early, not at every piece that arrives.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    since: Option<Instant>,
    alarm: Option<Alarm>,
}

impl Watchdog {
    /// The first wait begins when the reader first asks, and may last `limit`.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            alarm: None,
        }
    }

    /// The first wait began at `since`.
    #[must_use]
    pub const fn since(since: Instant, limit: Duration) -> Self {
        Self {
            limit,
            since: Some(since),
            alarm: None,
        }
    }

    /// The wait is over. The next one begins when the reader asks again, and may last `limit`.
    pub const fn restart(&mut self, limit: Duration) {
        self.limit = limit;
        self.since = None;
    }

    /// The longest wait at this time.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    /// Ready with the limit once the present wait has lasted that long.
    pub fn poll_exceeded(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let alarm = self.alarm.get_or_insert_with(|| Alarm::at(deadline));
        if deadline < alarm.deadline() {
            alarm.reset(deadline);
        }
        loop {
            ready!(alarm.poll_rung(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(self.limit);
            }
            alarm.reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_polled_by_several_tasks_wakes_the_last() {
        let mut alarm = Alarm::at(Instant::now() + SECOND);
        let (first, last) = (Arc::<Counted>::default(), Arc::<Counted>::default());
        for waker in [&first, &first, &last, &last] {
            let waker = Waker::from(Arc::clone(waker));
            assert!(alarm.poll_rung(&mut Context::from_waker(&waker)).is_pending());
        }
        tokio::time::sleep(2 * SECOND).await;
        let woken = |counted: &Counted| counted.0.load(Ordering::SeqCst);
        assert_eq!((woken(&first), woken(&last)), (0, 1));
        poll_fn(|cx| alarm.poll_rung(cx)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_moved_alarm_rings_at_its_new_time() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        assert!(futures_util::poll!(poll_fn(|cx| alarm.poll_rung(cx))).is_pending());
        alarm.reset(start + 3 * SECOND);
        poll_fn(|cx| alarm.poll_rung(cx)).await;
        assert_eq!(start.elapsed(), 3 * SECOND);
    }

    /// The library answers a task that has used up its budget without registering it.
    #[tokio::test(start_paused = true)]
    async fn an_alarm_first_polled_without_budget_still_rings() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let spent = std::pin::pin!(coop::consume_budget());
                let _pending = spent.poll(cx);
            }
            assert!(alarm.poll_rung(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| alarm.poll_rung(cx)).await;
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_wait_began_before_the_watchdog() {
        let since = Instant::now();
        tokio::time::advance(3 * SECOND).await;
        let mut watchdog = Watchdog::since(since, 5 * SECOND);
        assert_eq!(poll_fn(|cx| watchdog.poll_exceeded(cx)).await, 5 * SECOND);
        assert_eq!(since.elapsed(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_limit_brings_the_timer_forward() {
        let mut watchdog = Watchdog::since(Instant::now(), 100 * SECOND);
        assert!(futures_util::poll!(poll_fn(|cx| watchdog.poll_exceeded(cx))).is_pending());
        watchdog.restart(SECOND);
        let since = Instant::now();
        poll_fn(|cx| watchdog.poll_exceeded(cx)).await;
        assert_eq!(since.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_reader_does_not_count() {
        let mut watchdog = Watchdog::since(Instant::now(), 2 * SECOND);
        watchdog.restart(2 * SECOND);
        tokio::time::advance(60 * SECOND).await;
        let since = Instant::now();
        poll_fn(|cx| watchdog.poll_exceeded(cx)).await;
        assert_eq!(since.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_on_over_wakes_that_bring_nothing() {
        let mut watchdog = Watchdog::new(3 * SECOND);
        let since = Instant::now();
        for _ping in 0..2 {
            let waited = tokio::time::timeout(SECOND, poll_fn(|cx| watchdog.poll_exceeded(cx))).await;
            assert!(waited.is_err());
        }
        poll_fn(|cx| watchdog.poll_exceeded(cx)).await;
        assert_eq!(since.elapsed(), 3 * SECOND);
    }
}
