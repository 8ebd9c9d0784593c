//! What the daemon keeps beside tasks: artifacts of clients and the traces of tasks. Owns the store, the clock that their
//! age counts in, and what is told when something cannot be kept. Without a state directory there is none of it.

mod families;
mod files;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api_types::artifact::ArtifactTag;
use api_types::{ArtifactId, ArtifactKind, TaskRequest};
use artifact_store::{Filter, GetError, Meta, New, PutError, Stored};
use config_schema::{Auth, TraceText};
use memchr::memmem::Finder;
use narration_core::Narration;
use prometheus::Registry;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use files::Files;

use crate::story::ACTOR;
use crate::trace::Trace;
use families::Families;

/// Between a trace and its way to the disk: what a power cut may cost.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Longest time between two looks at ages, and at the clock's file.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The longest sweep may be late by this part of the age bound.
const SWEEP_PART: u32 = 4;

/// Settings, from configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bounds of the store.
    pub limits: artifact_store::Limits,
    /// Room on the disk that is left to the journal, bytes.
    pub reserve_bytes: u64,
    /// Whether tasks leave traces.
    pub traces: bool,
    /// What a trace says of the input.
    pub trace_input: TraceText,
    /// What a trace says of the output.
    pub trace_output: TraceText,
}

/// Most artifacts that are taken in at a time, each in memory: with the default bounds 264 MiB.
const UPLOADS: usize = 32;

/// Something that a client stores.
#[derive(Debug)]
pub struct Upload {
    /// What it is.
    pub kind: ArtifactKind,
    /// What its bytes mean.
    pub media_type: String,
    /// Words to find it by.
    pub tags: Vec<ArtifactTag>,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The content holds the daemon's own token.
    #[error("content: holds the token of this daemon")]
    Secret,
    /// The store refuses.
    #[error(transparent)]
    Put(#[from] PutError),
}

/// Artifacts as the daemon uses them.
pub struct Artifacts {
    files: Arc<Files>,
    options: Options,
    secrets: Vec<Finder<'static>>,
    uploads: Semaphore,
    families: Families,
    /// Whether the last trace could not be kept.
    failing: AtomicBool,
}

impl std::fmt::Debug for Artifacts {
    /// Nothing of the secrets that it looks for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Artifacts")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Artifacts {
    /// Over opened files.
    ///
    /// # Errors
    /// A metric family cannot be registered.
    pub fn new(
        files: Arc<Files>,
        options: Options,
        auth: &Auth,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            files,
            options,
            secrets: auth.token.as_ref().map(finders).unwrap_or_default(),
            uploads: Semaphore::new(UPLOADS),
            families: Families::new(registry)?,
            failing: AtomicBool::new(false),
        })
    }

    /// The bounds.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Waits until one more may be taken in; to be held from before its body is read until it is stored.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.uploads.acquire().await.ok()
    }

    /// The trace that a task with this request will leave.
    #[must_use]
    pub fn trace(self: &Arc<Self>, request: &TaskRequest) -> Option<Box<Trace>> {
        self.options
            .traces
            .then(|| Box::new(Trace::begin(Arc::clone(self), request)))
    }

    /// Stores what a client sends; tells whether it is new.
    ///
    /// # Errors
    /// [`Refused`], or a bug of ours as the outer error.
    pub async fn put(
        self: &Arc<Self>,
        upload: Upload,
    ) -> Result<Result<(Meta, bool), Refused>, tokio::task::JoinError> {
        let this = Arc::clone(self);
        spawn_blocking(move || this.put_now(&upload)).await
    }

    fn put_now(&self, upload: &Upload) -> Result<(Meta, bool), Refused> {
        if self.holds_secret(&upload.content) {
            return Err(Refused::Secret);
        }
        self.check_room(upload.content.len())?;
        let new = New {
            kind: upload.kind,
            media_type: &upload.media_type,
            tags: upload.tags.clone(),
            content: &upload.content,
        };
        let put = self.files.store.put(&new, self.files.stamp())?;
        if put.created {
            self.families.stored(upload.kind);
        }
        self.families.removed("size", put.evicted);
        Ok((put.meta, put.created))
    }

    /// One artifact.
    ///
    /// # Errors
    /// [`GetError`], or a bug of ours as the outer error.
    pub async fn get(
        self: &Arc<Self>,
        id: ArtifactId,
    ) -> Result<Result<Option<Stored>, GetError>, tokio::task::JoinError> {
        let this = Arc::clone(self);
        spawn_blocking(move || this.files.store.get(&id)).await
    }

    /// Artifacts, newest first.
    ///
    /// # Errors
    /// A bug of ours.
    pub async fn list(
        self: &Arc<Self>,
        filter: Filter,
        limit: usize,
    ) -> Result<Vec<Meta>, tokio::task::JoinError> {
        let this = Arc::clone(self);
        spawn_blocking(move || this.files.store.list(&filter, limit)).await
    }

    /// Keeps the trace of a task, one `write(2)`; `None` when it cannot be kept, which is told and counted.
    pub(crate) fn keep_trace(&self, tags: Vec<ArtifactTag>, content: &[u8]) -> Option<ArtifactId> {
        let new = New {
            kind: ArtifactKind::Trace,
            media_type: "application/json",
            tags,
            content,
        };
        let kept = self
            .check_room(content.len())
            .and_then(|()| self.files.store.append(&new, self.files.stamp()));
        match kept {
            Ok(put) => {
                self.families.stored(ArtifactKind::Trace);
                self.families.removed("size", put.evicted);
                if self.failing.swap(false, Ordering::Relaxed) {
                    Narration::new(ACTOR, "trace", &"artifacts", "Traces of tasks are kept again.").emit();
                }
                Some(put.meta.info.id)
            }
            Err(error) => {
                let reason = match &error {
                    PutError::TooLarge { .. } => "size",
                    PutError::DiskFull => "disk_full",
                    PutError::Differs { .. } | PutError::TooManyTags { .. } | PutError::Io(_) => "io",
                };
                self.missed(reason, &error);
                None
            }
        }
    }

    /// A task ends without a trace. Told once until one can be kept again.
    pub(crate) fn missed(&self, reason: &'static str, why: &impl std::fmt::Display) {
        self.families.missed(reason);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let human = "A task ends without a trace: it cannot be kept.";
            Narration::new(ACTOR, "trace", &"artifacts", human)
                .warning()
                .decision(why)
                .emit();
        }
    }

    /// Whether the bytes hold the daemon's own token.
    pub(crate) fn holds_secret(&self, bytes: &[u8]) -> bool {
        self.secrets.iter().any(|secret| secret.find(bytes).is_some())
    }

    /// Brings every trace so far to the disk. Blocks.
    pub(crate) fn sync(&self) {
        self.files.store.sync();
    }

    /// The journal must be able to go on, whatever is kept here.
    fn check_room(&self, bytes: usize) -> Result<(), PutError> {
        let needed = self.options.reserve_bytes.saturating_add(bytes as u64);
        match self.files.dir.room() {
            Some(room) if room < needed => Err(PutError::DiskFull),
            _ => Ok(()),
        }
    }

    fn sweep(&self) {
        // Before anything goes by it: after a crash the clock must not be behind what it has removed.
        self.files.save_clock();
        let swept = self.files.store.sweep(self.files.clock.now_ms());
        self.families.removed("age", swept.expired);
        if swept.expired > 0 {
            let human = format!("Removes {} artifacts that are older than allowed.", swept.expired);
            Narration::new(ACTOR, "sweep", &"artifacts", human).emit();
        }
    }

    /// Syncs traces and removes what is too old, until the daemon stops.
    pub async fn tend(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = interval(SYNC_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let every = SWEEP_EVERY.min(Duration::from_millis(self.options.limits.max_age_ms) / SWEEP_PART);
        let mut next_sweep = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            let sweeps = Instant::now() >= next_sweep;
            if sweeps {
                next_sweep = Instant::now() + every;
            }
            if !sweeps && !self.files.store.has_unsynced() {
                continue;
            }
            let this = Arc::clone(&self);
            let tended = spawn_blocking(move || {
                this.sync();
                if sweeps {
                    this.sweep();
                }
            });
            if let Err(error) = tended.await {
                tracing::error!(%error, "artifacts could not be looked after");
            }
        }
    }
}

/// The token as it is, and as it would be inside a JSON text.
fn finders(token: &SecretString) -> Vec<Finder<'static>> {
    let plain = token.expose_secret();
    let quoted = serde_json::to_string(plain).unwrap_or_default();
    let escaped = quoted.trim_matches('"');
    let mut finders = vec![Finder::new(plain).into_owned()];
    if escaped != plain {
        finders.push(Finder::new(escaped).into_owned());
    }
    finders
}
