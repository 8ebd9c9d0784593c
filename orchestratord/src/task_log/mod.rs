//! The task log: the heart of streaming. One append-only sequence of encoded SSE frames per task,
//! encoded once, read by any number of readers from any frame on.
//!
//! - Appending and sealing share one lock, so nothing can follow the terminal frame.
//! - A seal that *cuts* (cancel) also withholds token frames no reader has taken yet.
//! - Bounded: when the slowest attached reader lags more than the cap, the engine read waits
//!   ([`TaskLog::room`]); `token` frames are never dropped, `metrics` and `narration` frames are.
//!
//! Owns the frames and the progress counters of a task; knows nothing of queues or engines.

pub mod encode;
mod reader;
mod store;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use adapter_api::TokenBatch;
use api_types::{NarrationEvent, TaskEvent};
use tokio::time::Instant;

pub use reader::{Reader, ReaderGone};
use store::Store;
pub use store::{Progress, ResumePoint};

/// Bounds and format of a log, from configuration.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// Frames the slowest reader may lag before the engine read waits.
    pub reader_lag_cap: u64,
    /// Several tokens of one engine read become one frame.
    pub microbatch: bool,
    /// Most bytes of one task's frames.
    pub max_bytes: usize,
}

/// Why nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The terminal frame is there; nothing may follow.
    #[error("the task log is sealed")]
    Sealed,
    /// The task produced more output than the configured bound.
    #[error("the task's output exceeds {max_bytes} bytes")]
    Full {
        /// The bound, bytes.
        max_bytes: usize,
    },
}

/// The last frames of a stream.
#[derive(Debug, Clone)]
pub struct Epilogue {
    /// The end of the story, just before the terminal frame.
    pub narration: Option<NarrationEvent>,
    /// `end` or `error`.
    pub terminal: TaskEvent,
}

impl From<TaskEvent> for Epilogue {
    fn from(terminal: TaskEvent) -> Self {
        Self {
            narration: None,
            terminal,
        }
    }
}

/// Whether the engine read may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Every attached reader keeps up.
    Free,
    /// A reader lags more than the cap.
    Crowded,
}

/// What became of a frame that may be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It is in the log.
    Appended,
    /// A reader lags, or the log is sealed: it was left out.
    Dropped,
}

/// The log of one task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TaskLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: LogOptions,
    store: Mutex<Store>,
}

impl TaskLog {
    /// An empty log.
    #[must_use]
    pub fn new(options: LogOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                options,
                store: Mutex::new(Store::default()),
            }),
        }
    }

    /// Appends the `started` frame (n = 0).
    ///
    /// # Errors
    /// [`AppendError::Sealed`].
    pub fn start(&self, started: &TaskEvent) -> Result<Room, AppendError> {
        self.append_with(|store| store.push_event(Some(0), started))
    }

    /// Appends the tokens of one engine read and wakes the readers once. Tells whether a reader
    /// lags more than the cap now, so that the caller waits for [`Self::room`].
    ///
    /// # Errors
    /// [`AppendError`]; nothing of the batch is appended then.
    pub fn append_tokens(&self, batch: &TokenBatch, now: Instant) -> Result<Room, AppendError> {
        let microbatch = self.shared.options.microbatch;
        self.append_with(|store| store.push_tokens(batch, microbatch, now))
    }

    /// Appends a `metrics` or `narration` frame unless a reader lags.
    pub fn offer(&self, event: &TaskEvent) -> Offered {
        let mut store = self.lock();
        if store.is_sealed() || store.lag() > self.shared.options.reader_lag_cap {
            return Offered::Dropped;
        }
        store.push_event(None, event);
        let wakers = store.take_reader_wakers();
        drop(store);
        wakers.wake();
        Offered::Appended
    }

    /// Seals the log with the last frames that `epilogue` makes of the progress so far. With `cut`,
    /// token frames that a reader has not taken yet are withheld from it.
    ///
    /// # Errors
    /// [`AppendError::Sealed`] when another terminal frame came first.
    pub fn seal(&self, cut: bool, epilogue: impl FnOnce(&Progress) -> Epilogue) -> Result<(), AppendError> {
        let mut store = self.lock();
        if store.is_sealed() {
            return Err(AppendError::Sealed);
        }
        let epilogue = epilogue(store.progress());
        store.seal(cut, &epilogue);
        let wakers = store.take_all_wakers();
        drop(store);
        wakers.wake();
        Ok(())
    }

    /// Waits until every attached reader lags at most the cap (backpressure towards the engine).
    pub async fn room(&self) {
        poll_fn(|cx| {
            let mut store = self.lock();
            if store.is_sealed() || store.lag() <= self.shared.options.reader_lag_cap {
                return Poll::Ready(());
            }
            store.set_writer_waker(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Detaches every reader that lags more than the cap; its stream ends without a terminal
    /// frame and can be resumed. Returns how many were detached.
    pub fn detach_slow_readers(&self) -> usize {
        let mut store = self.lock();
        let detached = store.detach_slow(self.shared.options.reader_lag_cap);
        let wakers = store.take_all_wakers();
        drop(store);
        wakers.wake();
        detached
    }

    /// A reader that starts after frame `after` (`None`: from the beginning).
    ///
    /// # Errors
    /// [`ResumePoint`] tells why there is nothing to read.
    pub fn reader(&self, after: Option<u64>, gone: Arc<dyn ReaderGone>) -> Result<Reader, ResumePoint> {
        let mut store = self.lock();
        let cursor = store.cursor_after(after)?;
        let slot = store.attach(cursor);
        drop(store);
        Ok(Reader::new(self.clone(), slot, gone))
    }

    /// Most bytes that the log's frames may have.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.shared.options.max_bytes
    }

    /// A copy of the progress counters.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.lock().progress().clone()
    }

    /// The terminal event, once it is there.
    #[must_use]
    pub fn terminal(&self) -> Option<TaskEvent> {
        self.lock().terminal().cloned()
    }

    /// Whether the terminal frame is there.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.lock().is_sealed()
    }

    /// When a frame last came in.
    #[must_use]
    pub fn last_append(&self) -> Option<Instant> {
        self.lock().last_append()
    }

    /// Readers attached now.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.lock().readers()
    }

    fn append_with(&self, push: impl FnOnce(&mut Store)) -> Result<Room, AppendError> {
        let mut store = self.lock();
        if store.is_sealed() {
            return Err(AppendError::Sealed);
        }
        let max_bytes = self.shared.options.max_bytes;
        if store.bytes() > max_bytes {
            return Err(AppendError::Full { max_bytes });
        }
        push(&mut store);
        let room = if store.lag() > self.shared.options.reader_lag_cap {
            Room::Crowded
        } else {
            Room::Free
        };
        let wakers = store.take_reader_wakers();
        drop(store);
        wakers.wake();
        Ok(room)
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // The store stays consistent at every await-free step, so a panic elsewhere while the
        // lock was held cannot leave it half-changed.
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
