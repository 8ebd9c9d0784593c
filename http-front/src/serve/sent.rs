//! How far a connection's output has got: what a response body handed out is *sent* once the socket
//! has taken it. A handler that promises "nothing follows" waits for that, or cuts the connection of a
//! client that does not read (ORCH-3204).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The output of one connection; a request extension. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<State>);

/// A point in a connection's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

#[derive(Debug, Default)]
struct State {
    /// Writes to the socket that were begun.
    begun: AtomicU64,
    /// Writes that were begun before the last moment at which nothing was left to write.
    flushed: AtomicU64,
    closed: AtomicBool,
    cut: AtomicBool,
    waiting: AtomicUsize,
    moved: Notify,
}

impl Sent {
    /// The point behind what a response body hands out next. To be taken by that body itself, since it is polled between
    /// two writes of its connection.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.0.begun.load(Ordering::Relaxed))
    }

    /// Whether the socket has taken everything up to a point, or never will.
    #[must_use]
    pub fn has_reached(&self, mark: Mark) -> bool {
        self.0.flushed.load(Ordering::SeqCst) > mark.0 || self.0.closed.load(Ordering::SeqCst)
    }

    /// Waits for [`Sent::has_reached`].
    pub async fn reached(&self, mark: Mark) {
        // A write that comes between the count and the look sees the count; one before it is seen by the look.
        let _waiting = Waiting::new(&self.0);
        loop {
            let moved = self.0.moved.notified();
            if self.has_reached(mark) {
                return;
            }
            moved.await;
        }
    }

    /// Nothing more is written: the next write of the connection fails.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }

    /// A write to the socket begins.
    pub(super) fn begin(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing is left to write. Called by the connection's own task, like [`Sent::begin`].
    pub(super) fn flushed(&self) {
        self.0
            .flushed
            .store(self.0.begun.load(Ordering::Relaxed), Ordering::SeqCst);
        self.0.tell();
    }

    pub(super) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.tell();
    }
}

impl State {
    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.moved.notify_waiters();
        }
    }
}

/// Somebody waits, until dropped.
struct Waiting<'a>(&'a State);

impl<'a> Waiting<'a> {
    fn new(state: &'a State) -> Self {
        state.waiting.fetch_add(1, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn what_was_handed_out_is_sent_by_the_flush_after_the_next_write() {
        let sent = Sent::default();
        sent.begin();
        let mark = sent.mark();
        let mut reached = pin!(sent.reached(mark));
        assert!(poll!(&mut reached).is_pending());
        // Of what was written before.
        sent.flushed();
        assert!(poll!(&mut reached).is_pending());
        sent.begin();
        assert!(poll!(&mut reached).is_pending());
        sent.flushed();
        assert!(poll!(&mut reached).is_ready());
    }

    #[tokio::test]
    async fn a_closed_connection_has_sent_all_it_will() {
        let sent = Sent::default();
        let mut reached = pin!(sent.reached(sent.mark()));
        assert!(poll!(&mut reached).is_pending());
        sent.close();
        assert!(poll!(&mut reached).is_ready());
    }
}
