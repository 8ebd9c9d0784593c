//! SHA-256 of large files: one at a time, in the background, once per version, remembered across restarts.
//! Owns the cache file, which is only a cache: what cannot be read of it is computed again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::state_dir::write_whole;

use super::watcher::identity;
use super::{Digest, FileIdentity};

/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// The form of the cache file that this version reads and writes.
const VERSION: u32 = 1;

/// How many files are remembered: many times the models and engines of one node.
const MAX_REMEMBERED: usize = 256;

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// The daemon stops.
    #[error("stopped before the digest was complete")]
    Cancelled,
    /// The file was written to meanwhile; its next version will be hashed.
    #[error("the file changed while it was hashed")]
    Changed,
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
}

/// Known digests by path.
#[derive(Debug)]
pub struct DigestCache {
    file: PathBuf,
    known: Mutex<BTreeMap<PathBuf, Entry>>,
    /// One file at a time: two would halve each other's speed on one disk.
    turn: Semaphore,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    identity: FileIdentity,
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    files: BTreeMap<PathBuf, Entry>,
}

impl DigestCache {
    /// The cache of `file`; empty when there is none, or none that this version reads.
    #[must_use]
    pub fn open(file: PathBuf) -> Self {
        let known = load(&file).unwrap_or_else(|error| {
            tracing::warn!(path = %file.display(), %error, "the digest cache is not readable; digests are computed again");
            BTreeMap::new()
        });
        Self {
            file,
            known: Mutex::new(known),
            turn: Semaphore::new(1),
        }
    }

    /// The digest of a version of a file: remembered, or computed when its turn comes.
    ///
    /// # Errors
    /// [`DigestError`].
    pub async fn digest(
        self: &Arc<Self>,
        path: &Path,
        version: FileIdentity,
        stop: CancellationToken,
    ) -> Result<Digest, DigestError> {
        let remembered =
            self.known(|known| known.get(path).filter(|entry| entry.identity == version).cloned());
        if let Some(entry) = remembered {
            return Ok(entry.into());
        }
        let _turn = self
            .turn
            .acquire()
            .await
            .map_err(|_closed| DigestError::Cancelled)?;
        let (cache, path) = (Arc::clone(self), path.to_owned());
        spawn_blocking(move || cache.compute(path, version, &stop))
            .await
            .unwrap_or(Err(DigestError::Cancelled))
    }

    fn compute(
        &self,
        path: PathBuf,
        version: FileIdentity,
        stop: &CancellationToken,
    ) -> Result<Digest, DigestError> {
        let sha256 = hash(&path, version, stop)?;
        let entry = Entry {
            identity: version,
            sha256,
        };
        let digest = entry.clone().into();
        let stored = self.known(|known| {
            if known.len() >= MAX_REMEMBERED {
                known.pop_first();
            }
            known.insert(path, entry);
            Stored {
                version: VERSION,
                files: known.clone(),
            }
        });
        if let Err(error) = write_whole(&self.file, &stored) {
            tracing::warn!(path = %self.file.display(), %error, "the digest cache cannot be written");
        }
        Ok(digest)
    }

    /// No code under the lock panics or waits.
    fn known<T>(&self, with: impl FnOnce(&mut BTreeMap<PathBuf, Entry>) -> T) -> T {
        with(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<Entry> for Digest {
    fn from(entry: Entry) -> Self {
        Self {
            identity: entry.identity,
            sha256: entry.sha256,
        }
    }
}

fn hash(path: &Path, version: FileIdentity, stop: &CancellationToken) -> Result<String, DigestError> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if stop.is_cancelled() {
            return Err(DigestError::Cancelled);
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => hasher.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if identity(&file.metadata()?) != version {
        return Err(DigestError::Changed);
    }
    Ok(format!("sha256:{}", hex::encode(hasher.finalize())))
}

fn load(file: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let stored: Stored = serde_json::from_slice(&text)?;
    if stored.version != VERSION {
        let message = format!("it has version {}, not {VERSION}", stored.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(stored.files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn version(path: &Path) -> FileIdentity {
        identity(&fs::metadata(path).unwrap())
    }

    async fn digest(cache: &Arc<DigestCache>, path: &Path) -> Result<Digest, DigestError> {
        cache.digest(path, version(path), CancellationToken::new()).await
    }

    #[tokio::test]
    async fn a_version_is_hashed_once_even_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let (model, file) = (folder.path().join("m"), folder.path().join("digests.json"));
        fs::write(&model, "abc").unwrap();
        let cache = Arc::new(DigestCache::open(file.clone()));
        assert_eq!(digest(&cache, &model).await.unwrap().sha256, ABC);

        let text = fs::read_to_string(&file).unwrap().replace("ba7816bf", "remember");
        fs::write(&file, text).unwrap();
        let restarted = Arc::new(DigestCache::open(file));
        let remembered = digest(&restarted, &model).await.unwrap().sha256;
        assert!(
            remembered.starts_with("sha256:remember"),
            "it was read again: {remembered}"
        );

        fs::write(&model, "abcd").unwrap();
        assert_ne!(digest(&restarted, &model).await.unwrap().sha256, remembered);
    }

    #[tokio::test]
    async fn a_broken_or_newer_cache_is_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let (model, file) = (folder.path().join("m"), folder.path().join("digests.json"));
        fs::write(&model, "abc").unwrap();
        for text in ["", "{", r#"{"version":2,"files":{}}"#] {
            fs::write(&file, text).unwrap();
            let cache = Arc::new(DigestCache::open(file.clone()));
            assert_eq!(digest(&cache, &model).await.unwrap().sha256, ABC, "{text}");
        }
    }

    #[tokio::test]
    async fn a_stop_and_a_change_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m");
        fs::write(&model, "abc").unwrap();
        let cache = Arc::new(DigestCache::open(folder.path().join("digests.json")));
        let stop = CancellationToken::new();
        stop.cancel();
        let stopped = cache.digest(&model, version(&model), stop).await;
        assert!(matches!(stopped, Err(DigestError::Cancelled)));
        let old = FileIdentity::default();
        let changed = cache.digest(&model, old, CancellationToken::new()).await;
        assert!(matches!(changed, Err(DigestError::Changed)));
    }
}
