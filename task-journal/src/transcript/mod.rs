//! Transcripts: what each task has said, appended before it is handed to a reader.
//!
//! One append-only log in segments, shared by all tasks; a frame per engine read, one `write(2)`
//! each. What was written survives a crash of the process; a thread syncs it to the disk once a
//! second and whenever somebody waits for it ([`Transcripts::when_synced`]). Segments that no task
//! needs any more are dropped, and so are the oldest when all together exceed their bound.

mod frame;
mod recover;
mod writer;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use api_types::{TaskEvent, TaskId, TokenKind};

use recover::Recovered;
pub use recover::Transcript;
use writer::Writer;

use crate::record::RunRecord;

/// Between a write and its way to the disk when nobody waits for it.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Called by the syncing thread; must not block.
type Synced = Box<dyn FnOnce() + Send>;

/// The log of all transcripts. Dropping it syncs and ends its thread.
#[derive(Debug)]
pub struct Transcripts {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    writer: Mutex<Writer>,
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Default)]
struct Pending {
    dirty: bool,
    closed: bool,
    waiting: Vec<Synced>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending")
            .field("dirty", &self.dirty)
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Transcripts {
    /// Opens the folder and tells what each task that `wanted` names has said. A torn end is cut off.
    ///
    /// # Errors
    /// The folder or a file in it cannot be used.
    pub fn open(
        folder: &Path,
        max_bytes: u64,
        wanted: impl Fn(&TaskId) -> bool,
    ) -> io::Result<(Self, std::collections::HashMap<TaskId, Transcript>)> {
        let Recovered {
            segments,
            transcripts,
            needed,
        } = recover::recover(folder, wanted)?;
        let writer = Writer::new(folder.to_owned(), max_bytes, segments, needed)?;
        let shared = Arc::new(Shared {
            writer: Mutex::new(writer),
            pending: Mutex::default(),
            wake: Condvar::new(),
        });
        let syncing = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("transcripts".to_owned())
            .spawn(move || syncing.sync_until_closed())?;
        let transcripts_of = transcripts;
        Ok((
            Self {
                shared,
                thread: Some(thread),
            },
            transcripts_of,
        ))
    }

    /// Where one life of a task writes.
    #[must_use]
    pub fn recorder(self: &Arc<Self>, task: TaskId, epoch: u32) -> Recorder {
        Recorder {
            log: Arc::clone(self),
            task,
            epoch,
            buffer: Vec::new(),
        }
    }

    /// Nobody needs the transcript of a task any more.
    pub fn forget(&self, task: &TaskId) {
        self.shared.writer().forget(task);
    }

    /// Calls `synced` once everything written so far is on the disk, or cannot be brought there.
    pub fn when_synced(&self, synced: impl FnOnce() + Send + 'static) {
        self.shared.pending().waiting.push(Box::new(synced));
        self.shared.wake.notify_one();
    }

    fn append(&self, task: TaskId, frame: &[u8]) -> io::Result<()> {
        self.shared.writer().append(task, frame)?;
        self.shared.pending().dirty = true;
        Ok(())
    }
}

impl Drop for Transcripts {
    fn drop(&mut self) {
        self.shared.pending().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told by its own message.
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        // Every change of the writer is complete when the lock is released.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync_until_closed(&self) {
        loop {
            let quiet = |pending: &mut Pending| pending.waiting.is_empty() && !pending.closed;
            let (mut pending, _) = self
                .wake
                .wait_timeout_while(self.pending(), SYNC_EVERY, quiet)
                .unwrap_or_else(PoisonError::into_inner);
            let (dirty, closed) = (std::mem::take(&mut pending.dirty), pending.closed);
            let waiting = std::mem::take(&mut pending.waiting);
            drop(pending);
            if dirty {
                self.sync();
            }
            waiting.into_iter().for_each(|synced| synced());
            if closed {
                return;
            }
        }
    }

    /// A failed sync is told and not repeated: a second one may succeed without the data.
    fn sync(&self) {
        let file: io::Result<Arc<File>> = Ok(self.writer().current());
        if let Err(error) = file.and_then(|file| file.sync_data()) {
            tracing::warn!(%error, "transcripts cannot be synced; a power cut may lose more than the last second");
        }
    }
}

/// Writes what one life of one task says.
#[derive(Debug)]
pub struct Recorder {
    log: Arc<Transcripts>,
    task: TaskId,
    epoch: u32,
    buffer: Vec<u8>,
}

impl Recorder {
    /// Appends the texts of one engine read, the first of them token `first`. `generated` counts the
    /// tokens of the task so far as its engine does.
    ///
    /// # Errors
    /// It could not be written; the transcript ends before it.
    pub fn tokens<'a>(
        &mut self,
        first: u64,
        generated: u32,
        tokens: impl Iterator<Item = (TokenKind, &'a str)>,
    ) -> io::Result<()> {
        frame::tokens(
            &mut self.buffer,
            (self.task, self.epoch),
            (first, generated),
            tokens,
        );
        self.log.append(self.task, &self.buffer)
    }

    /// Appends what the task runs on from here. The journal has it too, but up to a moment later than the first texts.
    ///
    /// # Errors
    /// It could not be written.
    pub fn run(&mut self, run: &RunRecord) -> io::Result<()> {
        frame::run(&mut self.buffer, (self.task, self.epoch), run)?;
        self.log.append(self.task, &self.buffer)
    }

    /// Appends the terminal event; `cut` says that texts no reader had taken were withheld.
    ///
    /// # Errors
    /// It could not be written.
    pub fn end(&mut self, event: &TaskEvent, cut: bool) -> io::Result<()> {
        frame::end(&mut self.buffer, (self.task, self.epoch), event, cut)?;
        self.log.append(self.task, &self.buffer)
    }

    /// The log it writes to.
    #[must_use]
    pub fn log(&self) -> &Arc<Transcripts> {
        &self.log
    }
}
