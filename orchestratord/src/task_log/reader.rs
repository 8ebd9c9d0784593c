//! One reader of a task log as an HTTP response body: wakes on append, hands out all that is
//! ready, sends a comment line when nothing happened for a heartbeat, and says when it is gone.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_front::Sent;
use http_util::wait::Alarm;
use tokio::time::Instant;

use super::TaskLog;
use super::slots::Next;

/// A comment line: keeps proxies and dead-peer detection awake, invisible to SSE clients.
const HEARTBEAT: &[u8] = b":\n\n";

/// Told when the last reader of an unfinished task has left.
pub trait ReaderGone: Send + Sync {
    /// Called without any lock held.
    fn last_reader_gone(&self);
}

/// A reader that is attached to its log until dropped.
pub struct Reader {
    log: TaskLog,
    slot: usize,
    gone: Arc<dyn ReaderGone>,
    /// What this reader alone is told before anything else.
    first: Option<Bytes>,
}

impl Reader {
    pub(super) fn new(log: TaskLog, slot: usize, gone: Arc<dyn ReaderGone>, first: Option<Bytes>) -> Self {
        Self {
            log,
            slot,
            gone,
            first,
        }
    }

    /// Says over which connection the reader's output goes, so that [`TaskLog::sent`] can wait for it.
    #[must_use]
    pub fn over(self, connection: Sent) -> Self {
        self.log.lock().send_over(self.slot, connection);
        self
    }

    /// The reader as a response body with heartbeats every `heartbeat` of silence.
    #[must_use]
    pub fn into_body(self, heartbeat: Duration) -> ReaderBody {
        let now = Instant::now();
        ReaderBody {
            reader: self,
            heartbeat,
            last_beat: now,
            timer: Alarm::at(now + heartbeat),
        }
    }

    /// The next bytes, or `None` at the end.
    pub fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let (next, wakers) = self.log.lock().next(self.slot, cx.waker());
        wakers.wake();
        match next {
            Next::Data(data) => Poll::Ready(Some(data)),
            Next::Wait => Poll::Pending,
            Next::End => Poll::Ready(None),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (abandoned, wakers) = self.log.lock().detach(self.slot);
        wakers.wake();
        if abandoned {
            self.gone.last_reader_gone();
        }
    }
}

/// A [`Reader`] as an HTTP body.
pub struct ReaderBody {
    reader: Reader,
    heartbeat: Duration,
    /// When the body last said something by itself: its start, or the last comment.
    last_beat: Instant,
    timer: Alarm,
}

impl Body for ReaderBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match this.reader.poll_bytes(cx) {
            Poll::Ready(data) => Poll::Ready(data.map(|data| Ok(Frame::data(data)))),
            Poll::Pending => this.poll_heartbeat(cx),
        }
    }
}

impl ReaderBody {
    /// The timer is only moved when it rings, and the log knows when it last grew: data in between costs no look at a
    /// clock.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            ready!(self.timer.poll_rung(cx));
            let silent_since = self.reader.log.last_append().max(Some(self.last_beat));
            let now = Instant::now();
            let due = silent_since.unwrap_or(now) + self.heartbeat;
            if due <= now {
                self.last_beat = now;
                self.timer.reset(now + self.heartbeat);
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(HEARTBEAT)))));
            }
            self.timer.reset(due);
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
