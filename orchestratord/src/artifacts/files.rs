//! The files of artifacts: the store, and the clock that their age counts in.

use std::sync::Arc;

use artifact_store::{ArtifactStore, Stamp};
use narration_core::wall;
use task_journal::{KeptClock, StateDir};

use super::Options;

/// The files, opened before anything is served.
#[derive(Debug)]
pub struct Files {
    pub(super) dir: Arc<StateDir>,
    pub(super) store: ArtifactStore,
    pub(super) clock: KeptClock,
}

impl Files {
    /// Opens them and sweeps what a crash has left.
    ///
    /// # Errors
    /// The folder or a file in it cannot be used.
    pub fn open(dir: &Arc<StateDir>, options: &Options) -> Result<Self, artifact_store::OpenError> {
        let folder = dir.artifacts();
        let clock = KeptClock::open(folder.join("clock.json"));
        Ok(Self {
            dir: Arc::clone(dir),
            store: ArtifactStore::open(&folder, options.limits, clock.now_ms())?,
            clock,
        })
    }

    /// Brings everything to the disk. Blocks for as long as the disk does.
    pub fn close(&self) {
        self.store.sync();
        self.save_clock();
    }

    pub(super) fn save_clock(&self) {
        if let Err(error) = self.clock.save() {
            tracing::warn!(%error, "the clock of the artifacts cannot be saved; they are kept a little longer");
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            now_ms: self.clock.now_ms(),
            unix_ms: wall::unix_ms(),
        }
    }
}
