//! Hashes a file while it grows: follows the point up to which it is whole, and reads what was just written.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use api_types::Sha256Digest;
use sha2::{Digest as _, Sha256};

use crate::error::FetchError;
use crate::partial::Partial;

/// Read at once.
const CHUNK: usize = 1 << 20;

/// How far the file is whole, and whether it will grow.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    whole: u64,
    ended: bool,
    stopped: bool,
}

/// Told by those who write, waited on by the one who hashes.
#[derive(Debug, Default)]
pub(crate) struct Frontier {
    reached: Mutex<Reached>,
    changed: Condvar,
}

impl Frontier {
    pub(crate) fn advance(&self, whole: u64) {
        self.change(|reached| reached.whole = reached.whole.max(whole));
    }

    /// The file is as long as it will be.
    pub(crate) fn end(&self) {
        self.change(|reached| reached.ended = true);
    }

    /// Nobody wants the digest any more.
    pub(crate) fn stop(&self) {
        self.change(|reached| reached.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut Reached)) {
        change(&mut self.reached.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until there is more than `hashed`.
    fn beyond(&self, hashed: u64) -> Reached {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        while reached.whole <= hashed && !reached.ended && !reached.stopped {
            reached = self.changed.wait(reached).unwrap_or_else(PoisonError::into_inner);
        }
        *reached
    }
}

/// Hashes until the frontier ends. Blocking.
pub(crate) fn hash(partial: &Arc<Partial>, frontier: &Frontier) -> Result<Sha256Digest, FetchError> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut hashed: u64 = 0;
    loop {
        let reached = frontier.beyond(hashed);
        if reached.stopped {
            return Err(FetchError::Stopped);
        }
        if reached.ended && hashed >= reached.whole {
            return Ok(Sha256Digest::new(hasher.finalize().into()));
        }
        let most = usize::try_from(reached.whole - hashed)
            .unwrap_or(CHUNK)
            .min(CHUNK);
        let read = partial.read_at(&mut chunk[..most], hashed);
        match read {
            Ok(0) => {
                return Err(FetchError::Short {
                    name: "the partial file".to_owned(),
                    expected: reached.whole,
                    found: hashed,
                });
            }
            Ok(count) => {
                hasher.update(&chunk[..count]);
                hashed += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(FetchError::Io {
                    path: "the partial file".into(),
                    source: error,
                });
            }
        }
    }
}
