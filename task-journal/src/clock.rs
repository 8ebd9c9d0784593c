//! A clock that goes on over restarts and that nobody can set: what ages on the disk is judged by it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::boot::{Boot, Moment};

/// Milliseconds since the clock was first opened. Time while the process is down counts within one boot; time while the
/// machine is off does not, since only a wall clock knows it. A crash costs what passed since the last
/// [`save`](Self::save), at most: things are kept a little longer, never shorter.
#[derive(Debug)]
pub struct KeptClock {
    path: PathBuf,
    boot: Boot,
    opened: Moment,
    /// What it showed then.
    base_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    shown_ms: u64,
    at: Moment,
}

impl KeptClock {
    /// Goes on from the file, or begins at 0 where there is none or it cannot be read.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let boot = Boot::current();
        let opened = boot.now();
        let saved = fs::read(&path)
            .ok()
            .and_then(|json| serde_json::from_slice::<Saved>(&json).ok());
        let base_ms = saved.map_or(0, |saved| saved.shown_ms.saturating_add(opened.since(&saved.at)));
        Self {
            path,
            boot,
            opened,
            base_ms,
        }
    }

    /// What it shows, ms.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.base_ms
            .saturating_add(self.boot.now().ms.saturating_sub(self.opened.ms))
    }

    /// Writes down what it shows.
    ///
    /// # Errors
    /// The file cannot be written; the one before is still there.
    pub fn save(&self) -> io::Result<()> {
        let saved = Saved {
            shown_ms: self.now_ms(),
            at: self.boot.now(),
        };
        let draft = self.path.with_extension("new");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        file.sync_data()?;
        fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(shown_ms: u64, at: Moment) -> (tempfile::TempDir, KeptClock) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock.json");
        fs::write(&path, serde_json::to_vec(&Saved { shown_ms, at }).unwrap()).unwrap();
        (folder, KeptClock::open(path))
    }

    /// REQ-ARTIFACT-RETENTION.
    #[test]
    fn it_counts_the_pause_within_a_boot_and_no_other() {
        let now = Boot::current().now();
        let earlier = Moment {
            ms: now.ms.saturating_sub(500),
            ..now
        };
        let (_folder, same_boot) = saved(1_000, earlier);
        assert!(
            same_boot.now_ms() >= 1_000 + (now.ms - earlier.ms),
            "{same_boot:?}"
        );
        let other_boot = Moment {
            boot: Some(uuid::Uuid::from_u128(1)),
            ms: 0,
        };
        let (_folder, rebooted) = saved(1_000, other_boot);
        assert!((1_000..60_000).contains(&rebooted.now_ms()), "{rebooted:?}");
    }

    /// REQ-ARTIFACT-RETENTION.
    #[test]
    fn it_goes_on_from_what_was_saved_and_begins_anew_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock.json");
        fs::write(&path, "{").unwrap();
        assert!(KeptClock::open(path).now_ms() < 60_000);
        let (_folder, clock) = saved(1 << 40, Boot::current().now());
        clock.save().unwrap();
        assert!(KeptClock::open(clock.path.clone()).now_ms() >= 1 << 40);
        assert!(!clock.path.with_extension("new").exists());
    }
}
