//! The writer: one thread, one inbox, one durable commit per batch. Whoever asked is answered after
//! the commit, or told that there was none.
//!
//! A batch is what waits in the inbox, at most [`BATCH`] operations. When requests are known to be
//! on their way ([`InFlight`]) the writer waits for them up to `linger`, so that they share a commit;
//! when nobody waits for an answer it lets edges gather for `edge_linger`.
//!
//! The inbox is bounded: admissions and barriers are refused beyond its capacity. Edges and
//! forgettings are not, since they cannot be undone; each task has at most a handful.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use api_types::TaskId;

use crate::record::{AdmissionRecord, LifeRecord};
use crate::store::{Store, WriteError};

/// Most operations of one commit.
const BATCH: usize = 256;

/// One change of the journal.
#[derive(Debug)]
pub enum Op {
    /// A task was admitted.
    Admit(TaskId, Box<AdmissionRecord>, Box<LifeRecord>),
    /// Its state changed.
    Edge(TaskId, Box<LifeRecord>),
    /// Its retention is over, or it was never acknowledged.
    Forget(TaskId),
    /// Nothing: answered when everything before it is durable.
    Barrier,
}

impl Op {
    const fn may_be_refused(&self) -> bool {
        matches!(self, Self::Admit(..) | Self::Barrier)
    }
}

/// Why something was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCommitted {
    /// The storage failed; nothing is taken any more.
    #[error("the task journal cannot be written")]
    Failed,
    /// The writer does not keep up.
    #[error("the task journal does not keep up")]
    Behind,
    /// The disk has no room beyond the reserve for the tasks that are there.
    #[error("the disk of the task journal is full")]
    DiskFull,
}

/// Called once, by the writer's thread or, for a refusal, by the caller's. Must not block.
pub type Done = Box<dyn FnOnce(Result<(), NotCommitted>) + Send>;

/// Bounds of the writer.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// Most operations waiting that may be refused.
    pub capacity: usize,
    /// Longest wait for requests on their way, before a commit.
    pub linger: Duration,
    /// How long edges that nobody waits for gather.
    pub edge_linger: Duration,
    /// Below this much room on the disk admissions are refused, so that what was admitted can be
    /// finished, bytes.
    pub reserve_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            capacity: 4096,
            linger: Duration::from_millis(2),
            edge_linger: Duration::from_millis(20),
            reserve_bytes: 16 << 20,
        }
    }
}

/// Tells how much room the disk has, bytes; `None` when it cannot be told.
type Room = Box<dyn Fn() -> Option<u64> + Send>;

/// Told once, when the storage has failed.
type Failed = Box<dyn FnOnce(&WriteError) + Send>;

/// The journal's handle. Dropping it commits what waits and ends the thread.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A request on its way to the journal, counted until dropped.
#[derive(Debug)]
pub struct InFlight {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: JournalOptions,
    inbox: Mutex<Inbox>,
    wake: Condvar,
    in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<Entry>,
    /// Operations in the queue that somebody waits for.
    awaited: usize,
    closed: bool,
    failed: bool,
}

struct Entry {
    op: Op,
    done: Option<Done>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.op.fmt(f)
    }
}

impl Journal {
    /// Starts the writer. `room` tells the disk's free bytes, `failed` is called when the storage
    /// has failed.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        store: Store,
        options: JournalOptions,
        room: impl Fn() -> Option<u64> + Send + 'static,
        failed: impl FnOnce(&WriteError) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            options,
            inbox: Mutex::default(),
            wake: Condvar::new(),
            in_flight: AtomicUsize::new(0),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            store,
            room: Box::new(room),
            failed: Some(Box::new(failed)),
        };
        let thread = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Counts a request that will soon ask for an admission.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Writes something nobody waits for.
    pub fn note(&self, op: Op) {
        self.push(op, None);
    }

    /// Writes something and answers after its commit.
    pub fn write(&self, op: Op, done: Done) {
        self.push(op, Some(done));
    }

    /// Waits until everything written so far is durable. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// It is not.
    pub fn flush(&self) -> Result<(), NotCommitted> {
        let (told, outcome) = sync_channel(1);
        self.write(
            Op::Barrier,
            Box::new(move |committed| {
                // Whoever waits does so below.
                _ = told.send(committed);
            }),
        );
        outcome.recv().unwrap_or(Err(NotCommitted::Failed))
    }

    /// Commits what waits, takes nothing more and ends the thread.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the writer was told by its own message.
            let _ended = thread.join();
        }
    }

    fn push(&self, op: Op, done: Option<Done>) {
        let mut inbox = self.shared.lock();
        let refused = if inbox.failed || inbox.closed {
            Some(NotCommitted::Failed)
        } else if op.may_be_refused() && inbox.awaited >= self.shared.options.capacity {
            Some(NotCommitted::Behind)
        } else {
            None
        };
        if let Some(reason) = refused {
            drop(inbox);
            if let Some(done) = done {
                done(Err(reason));
            }
            return;
        }
        inbox.awaited += usize::from(done.is_some());
        inbox.queue.push_back(Entry { op, done });
        drop(inbox);
        self.shared.wake.notify_one();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Every change of the inbox is complete when the lock is released.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch; `None` when the journal is closed and empty.
    fn next_batch(&self) -> Option<Vec<Entry>> {
        let inbox = self.lock();
        let empty = |inbox: &mut Inbox| inbox.queue.is_empty() && !inbox.closed;
        let inbox = self
            .wake
            .wait_while(inbox, empty)
            .unwrap_or_else(PoisonError::into_inner);
        let idle = |inbox: &mut Inbox| inbox.awaited == 0 && !inbox.closed && inbox.queue.len() < BATCH;
        let (inbox, _) = self
            .wake
            .wait_timeout_while(inbox, self.options.edge_linger, idle)
            .unwrap_or_else(PoisonError::into_inner);
        let more_come = |inbox: &mut Inbox| {
            let on_the_way = self.in_flight.load(Ordering::Relaxed);
            !inbox.closed && inbox.awaited < on_the_way && inbox.queue.len() < BATCH
        };
        let (mut inbox, _) = self
            .wake
            .wait_timeout_while(inbox, self.options.linger, more_come)
            .unwrap_or_else(PoisonError::into_inner);
        let count = inbox.queue.len().min(BATCH);
        let batch: Vec<Entry> = inbox.queue.drain(..count).collect();
        inbox.awaited -= batch.iter().filter(|entry| entry.done.is_some()).count();
        (!batch.is_empty()).then_some(batch)
    }
}

struct Writer {
    shared: Arc<Shared>,
    store: Store,
    room: Room,
    failed: Option<Failed>,
}

impl Writer {
    fn run(self) {
        while let Some(batch) = self.shared.next_batch() {
            let batch = self.without_room(batch);
            if batch.is_empty() {
                continue;
            }
            match self.store.write(batch.iter().map(|entry| &entry.op)) {
                Ok(()) => answer(batch, Ok(())),
                Err(error) => return self.fail(batch, &error),
            }
        }
    }

    /// Refuses the admissions of a batch when the disk is nearly full, and keeps the rest.
    fn without_room(&self, batch: Vec<Entry>) -> Vec<Entry> {
        let admits = |entry: &Entry| matches!(entry.op, Op::Admit(..));
        let reserve = self.shared.options.reserve_bytes;
        if !batch.iter().any(admits) || (self.room)().is_none_or(|room| room >= reserve) {
            return batch;
        }
        let (refused, kept) = batch.into_iter().partition(admits);
        answer(refused, Err(NotCommitted::DiskFull));
        kept
    }

    /// Nothing is acknowledged any more: this batch, what waits, and what may come.
    fn fail(mut self, batch: Vec<Entry>, error: &WriteError) {
        let waiting = {
            let mut inbox = self.shared.lock();
            inbox.failed = true;
            inbox.awaited = 0;
            std::mem::take(&mut inbox.queue)
        };
        if let Some(failed) = self.failed.take() {
            failed(error);
        }
        answer(batch.into_iter().chain(waiting), Err(NotCommitted::Failed));
    }
}

fn answer(batch: impl IntoIterator<Item = Entry>, outcome: Result<(), NotCommitted>) {
    for done in batch.into_iter().filter_map(|entry| entry.done) {
        done(outcome);
    }
}
