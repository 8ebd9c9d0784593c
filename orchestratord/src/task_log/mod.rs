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
mod slots;
mod store;

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use adapter_api::TokenBatch;
use api_types::{NarrationEvent, ResyncEvent, TaskEvent, TokenKind};
use bytes::BytesMut;
use task_journal::{Recorder, RunRecord};
use tokio::time::{Instant, timeout_at};

use crate::artifacts::Artifacts;
use crate::trace::Trace;
use encode::FrameId;
pub use reader::{Reader, ReaderGone};
use store::Store;
pub use store::{Progress, ResumePoint};

/// How long a client may take to read what was handed out to it before a cancel is acknowledged: well below the second
/// in which its slot must be free (invariant I4).
const MAX_SEND: Duration = Duration::from_millis(500);

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

/// Which life of a task a log is, after crashes of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// How often the task was taken up again.
    pub epoch: u32,
    /// For each earlier epoch, the tokens of it that the next one began with.
    pub kept: Vec<u64>,
}

impl TakenUp {
    /// Tokens of an earlier epoch that this log still begins with.
    fn shared_since(&self, epoch: u32) -> u64 {
        let since = self.kept.get(epoch as usize..).unwrap_or_default();
        since.iter().min().copied().unwrap_or(0)
    }
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

    /// An empty log of a task that an earlier process knew.
    #[must_use]
    pub fn taken_up(options: LogOptions, taken_up: TakenUp) -> Self {
        let log = Self::new(options);
        log.lock().take_up(taken_up);
        log
    }

    /// Takes over what an earlier life of the task has said, after `started`.
    pub fn preload(&self, tokens: &[(TokenKind, String)], generated: u32) {
        self.lock().preload(tokens, generated);
    }

    /// The next run's engine counts its tokens from here on.
    pub fn count_from(&self, generated: u32) {
        self.lock().count_from(generated);
    }

    /// From now on everything is written to a transcript before a reader gets it; with `strict`,
    /// synced as well.
    pub fn record_with(&self, recorder: Recorder, strict: bool) {
        self.lock().record_with(recorder, strict);
    }

    /// From now on the trace gathers what is said; it is written when the log is sealed.
    pub fn trace_with(&self, trace: Option<Box<Trace>>) {
        *self.lock().trace_mut() = trace;
    }

    /// The trace in the making, which then is nobody's: the log leaves none.
    #[must_use]
    pub fn take_trace(&self) -> Option<Box<Trace>> {
        self.lock().trace_mut().take()
    }

    /// Tells the trace more, where there is one.
    pub(crate) fn trace(&self, tell: impl FnOnce(&mut Trace)) {
        if let Some(trace) = self.lock().trace_mut() {
            tell(trace);
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
        if store.is_closed() || store.lag() > self.shared.options.reader_lag_cap {
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
        if store.is_closed() {
            return Err(AppendError::Sealed);
        }
        let epilogue = epilogue(store.progress());
        let from = store.segments();
        let keeper = store.trace_keeper();
        store.seal(cut, &epilogue);
        self.hold_back(&mut store, from, keeper);
        let wakers = store.take_all_wakers();
        drop(store);
        wakers.wake();
        Ok(())
    }

    /// Waits until every attached reader lags at most the cap (backpressure towards the engine).
    pub async fn room(&self) {
        poll_fn(|cx| {
            let mut store = self.lock();
            if store.is_closed() || store.lag() <= self.shared.options.reader_lag_cap {
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

    /// Ends every reader without a terminal frame and takes nothing more: the daemon stops, and the
    /// task goes on after its restart.
    pub fn park(&self) {
        let mut store = self.lock();
        store.park();
        let wakers = store.take_all_wakers();
        drop(store);
        wakers.wake();
    }

    /// A reader that starts after frame `after` (`None`: from the beginning). One that has seen more
    /// of an earlier epoch than survived is told by a `resync` frame first.
    ///
    /// # Errors
    /// [`ResumePoint`] tells why there is nothing to read.
    pub fn reader(&self, after: Option<FrameId>, gone: Arc<dyn ReaderGone>) -> Result<Reader, ResumePoint> {
        let mut store = self.lock();
        let (cursor, back) = store.resume_after(after)?;
        let epoch = store.taken_up().epoch;
        let slot = store.attach(cursor);
        drop(store);
        let resync = back.map(|from| {
            let mut frame = BytesMut::new();
            // Two numbers are always JSON.
            let _encoded = encode::event(&mut frame, None, &TaskEvent::Resync(ResyncEvent { epoch, from }));
            frame.freeze()
        });
        Ok(Reader::new(self.clone(), slot, gone, resync))
    }

    /// Waits until all that readers have taken so far is on its way to their clients. Those whose client does not read
    /// for [`MAX_SEND`] are cut off: nothing more is written to them.
    pub async fn sent(&self) {
        let unsent = self.lock().unsent();
        let deadline = Instant::now() + MAX_SEND;
        for output in unsent {
            if timeout_at(deadline, output.connection.reached(output.upto))
                .await
                .is_err()
            {
                output.connection.cut();
            }
        }
    }

    /// Lets the transcript say what the task runs on, before what it says there.
    pub fn record_run(&self, run: &RunRecord) {
        self.lock().record_run(run);
    }

    /// How often the task was taken up again after a crash.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.lock().taken_up().epoch
    }

    /// For each earlier epoch, the tokens of it that the next one began with.
    #[must_use]
    pub fn kept(&self) -> Vec<u64> {
        self.lock().taken_up().kept.clone()
    }

    /// Whether tokens that no reader had taken were withheld at the end.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut()
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
        if store.is_closed() {
            return Err(AppendError::Sealed);
        }
        let max_bytes = self.shared.options.max_bytes;
        if store.bytes() > max_bytes {
            return Err(AppendError::Full { max_bytes });
        }
        let from = store.segments();
        push(&mut store);
        self.hold_back(&mut store, from, None);
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

    fn hold_back(&self, store: &mut Store, from: usize, trace: Option<Arc<Artifacts>>) {
        if let Some((transcripts, upto)) = store.hold_back(from) {
            let log = self.clone();
            transcripts.when_synced(move || {
                // The last frame names the trace. This is the thread that syncs.
                if let Some(artifacts) = trace {
                    artifacts.sync();
                }
                log.release(upto);
            });
        }
    }

    fn release(&self, upto: usize) {
        let mut store = self.lock();
        store.release(upto);
        let wakers = store.take_reader_wakers();
        drop(store);
        wakers.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // The store stays consistent at every await-free step, so a panic elsewhere while the
        // lock was held cannot leave it half-changed.
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
