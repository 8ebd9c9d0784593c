//! The word that a server stops, for connections that ask at every wake-up and hardly ever hear it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Says it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    said: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Stop {
    /// From now on the server stops.
    pub(super) fn now(&self) {
        self.said.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// One connection's ear. Its token is a child, which has a lock of its own: connections do not meet at one lock.
    pub(super) fn watch(&self) -> Watch {
        Watch {
            said: Arc::clone(&self.said),
            wait: Box::pin(self.token.child_token().cancelled_owned()),
            told: None,
        }
    }
}

/// Hears it. As long as the same task polls, that costs one load.
pub(super) struct Watch {
    said: Arc<AtomicBool>,
    wait: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom the token wakes.
    told: Option<Waker>,
}

impl Watch {
    /// Ready once the server stops.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let told = self.told.as_ref().is_some_and(|told| told.will_wake(cx.waker()));
        if told && !self.said.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let heard = self.wait.as_mut().poll(cx);
        self.told = heard.is_pending().then(|| cx.waker().clone());
        heard
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn a_watch_that_waits_and_one_made_later_both_hear_it() {
        let stop = Stop::default();
        let mut watch = stop.watch();
        for _again in 0..2 {
            assert!(futures_util::poll!(poll_fn(|cx| watch.poll_stopped(cx))).is_pending());
        }
        let waiting = TaskTracker::new().spawn(async move { poll_fn(|cx| watch.poll_stopped(cx)).await });
        stop.now();
        waiting.await.unwrap();
        let mut late = stop.watch();
        poll_fn(|cx| late.poll_stopped(cx)).await;
    }
}
