//! A store in a folder of its own, and short words for what is put into it.

use std::path::{Path, PathBuf};

use api_types::{ArtifactId, ArtifactKind};
use artifact_store::{ArtifactStore, Limits, New, Put, PutError, Stamp};

pub(crate) const ROOMY: Limits = Limits {
    max_artifact_bytes: 1 << 20,
    max_stored_bytes: 1 << 30,
    max_trace_bytes: 1 << 30,
    max_age_ms: 1_000,
};

pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: ArtifactStore,
    limits: Limits,
}

impl Fixture {
    pub(crate) fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(folder.path(), limits, 0).unwrap();
        Self {
            folder,
            store,
            limits,
        }
    }

    /// As after a restart.
    pub(crate) fn reopen(&mut self, now_ms: u64) {
        self.store = ArtifactStore::open(self.folder.path(), self.limits, now_ms).unwrap();
    }

    pub(crate) fn put(&self, content: &[u8], tags: &[&str], now_ms: u64) -> Result<Put, PutError> {
        self.store
            .put(&new(ArtifactKind::Plan, content, tags), at(now_ms))
    }

    pub(crate) fn append(&self, content: &[u8], tags: &[&str], now_ms: u64) -> Result<Put, PutError> {
        self.store
            .append(&new(ArtifactKind::Trace, content, tags), at(now_ms))
    }

    pub(crate) fn content(&self, id: &ArtifactId) -> Option<Vec<u8>> {
        self.store.get(id).unwrap().map(|stored| stored.content)
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }
}

pub(crate) fn new<'a>(kind: ArtifactKind, content: &'a [u8], tags: &[&str]) -> New<'a> {
    New {
        kind,
        media_type: "text/plain",
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        content,
    }
}

pub(crate) const fn at(now_ms: u64) -> Stamp {
    Stamp { now_ms, unix_ms: 7 }
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort_unstable();
    files
}
