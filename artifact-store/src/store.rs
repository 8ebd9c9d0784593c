//! The handle: one order over both rooms, and retention.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use api_types::ArtifactId;

use crate::catalog::Filter;
use crate::error::{GetError, OpenError, PutError};
use crate::files;
use crate::loose::Loose;
use crate::meta::{Meta, New, Stamp, id_of};
use crate::packs::Packs;

/// Bounds, from configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest content of one artifact, bytes.
    pub max_artifact_bytes: u64,
    /// Most of what clients store, as it lies on the disk, bytes.
    pub max_stored_bytes: u64,
    /// Most of all traces, bytes.
    pub max_trace_bytes: u64,
    /// What is kept for this long is removed, ms.
    pub max_age_ms: u64,
}

/// What became of something to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// As it is known now.
    pub meta: Meta,
    /// Whether the content is new.
    pub created: bool,
    /// How many older ones made room.
    pub evicted: usize,
}

/// An artifact with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What is known of it.
    pub meta: Meta,
    /// Its bytes; they have the digest that names them.
    pub content: Vec<u8>,
}

/// What a sweep has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Artifacts older than the bound.
    pub expired: usize,
}

/// Artifacts on disk. All calls may block on the disk.
#[derive(Debug)]
pub struct ArtifactStore {
    limits: Limits,
    loose: Loose,
    packs: Packs,
    next_seq: AtomicU64,
}

impl ArtifactStore {
    /// Opens the folder, makes it where it is not there yet, and removes what a crash has left half-done and what is too
    /// old by now. The caller sees to it that nobody else uses it, and that `now_ms` is never before the moment of an
    /// earlier sweep: what that had removed could come back.
    ///
    /// # Errors
    /// [`OpenError`]: the folder or a file in it cannot be used.
    pub fn open(root: &Path, limits: Limits, now_ms: u64) -> Result<Self, OpenError> {
        files::folder(root).map_err(OpenError::at(root))?;
        let loose = Loose::open(root, limits.max_stored_bytes)?;
        let packs = Packs::open(&root.join("packs"), limits.max_trace_bytes)?;
        let last = loose.last_seq().max(packs.last_seq());
        let store = Self {
            limits,
            loose,
            packs,
            next_seq: last.map_or(0, |seq| seq + 1).into(),
        };
        store.sweep(now_ms);
        Ok(store)
    }

    /// Stores what a client wants kept; it survives a power cut once this returns. The same content again is the same
    /// artifact: its tags are joined and its age begins anew.
    ///
    /// # Errors
    /// [`PutError`]; nothing of it is visible, now or after a crash.
    pub fn put(&self, new: &New<'_>, stamp: Stamp) -> Result<Put, PutError> {
        self.check_size(new)?;
        if let Some(known) = self.packs.meta(&id_of(new.content))
            && known.info.kind != new.kind
        {
            return Err(PutError::other_kind(known.info.kind));
        }
        self.loose.put(new, stamp, &self.next_seq)
    }

    /// Appends a trace: it can be read once this returns and survives a crash of the process; [`sync`](Self::sync)
    /// makes it survive a power cut.
    ///
    /// # Errors
    /// [`PutError`]; nothing of it is kept.
    pub fn append(&self, new: &New<'_>, stamp: Stamp) -> Result<Put, PutError> {
        self.check_size(new)?;
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        self.packs
            .append(Meta::new(id_of(new.content), new, seq, stamp), new.content)
    }

    fn check_size(&self, new: &New<'_>) -> Result<(), PutError> {
        let (bytes, max_bytes) = (new.content.len() as u64, self.limits.max_artifact_bytes);
        if bytes > max_bytes {
            return Err(PutError::TooLarge { bytes, max_bytes });
        }
        Ok(())
    }

    /// Brings everything that was appended to the disk.
    pub fn sync(&self) {
        self.packs.sync();
    }

    /// Whether [`sync`](Self::sync) has something to do.
    #[must_use]
    pub fn has_unsynced(&self) -> bool {
        self.packs.has_unsynced()
    }

    /// One artifact, verified; `None` for an unknown one.
    ///
    /// # Errors
    /// [`GetError`]: it is there and cannot be served.
    pub fn get(&self, id: &ArtifactId) -> Result<Option<Stored>, GetError> {
        let found = match self.loose.get(id)? {
            Some(found) => Some(found),
            None => self.packs.get(id)?,
        };
        Ok(found.map(|(meta, content)| Stored { meta, content }))
    }

    /// Artifacts that pass, newest first, at most `limit`.
    #[must_use]
    pub fn list(&self, filter: &Filter, limit: usize) -> Vec<Meta> {
        let mut found = self.packs.list(filter, limit);
        // Who stores the content of a trace makes a second home for it; it is listed once.
        found.retain(|meta| self.loose.meta(&meta.info.id).is_none());
        found.extend(self.loose.list(filter, limit));
        found.sort_unstable_by_key(|meta| std::cmp::Reverse(meta.seq));
        found.truncate(limit);
        found
    }

    /// Removes what is older than the bound.
    pub fn sweep(&self, now_ms: u64) -> Swept {
        let expired = match now_ms.checked_sub(self.limits.max_age_ms) {
            Some(until_ms) => self.loose.expire(until_ms) + self.packs.expire(until_ms),
            None => 0,
        };
        Swept { expired }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.loose.len() + self.packs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
