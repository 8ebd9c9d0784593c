//! Whether a daemon is there: an engine that nobody has taken over for too long holds memory for nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Returns when nobody has held the lock for `limit`.
pub(super) async fn abandoned(lock: &Path, limit: Duration) {
    let mut owned = Instant::now();
    while owned.elapsed() < limit {
        sleep(INTERVAL.min(limit)).await;
        if is_locked(lock) {
            owned = Instant::now();
        }
    }
}

/// Looks without touching the lock: to try it would keep a starting daemon from getting it. When the kernel does
/// not tell, somebody is assumed to be there.
fn is_locked(lock: &Path) -> bool {
    let Ok(meta) = fs::metadata(lock) else {
        return false;
    };
    fs::read_to_string("/proc/locks").map_or(true, |table| lists(&table, meta.ino()))
}

/// `1: FLOCK  ADVISORY  WRITE 4711 08:02:1234 0 EOF`: the inode is the last part of the sixth field. The device
/// before it is another one than `stat` tells on some file systems, and so is left out.
fn lists(table: &str, inode: u64) -> bool {
    let inode = inode.to_string();
    let holds = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let flock = fields.nth(1) == Some("FLOCK");
        flock && fields.nth(3).and_then(|file| file.rsplit(':').next()) == Some(&inode)
    };
    table.lines().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use owned_folder::OwnedFolder;

    #[test]
    fn only_a_held_flock_of_that_file_counts() {
        let table = "1: POSIX  ADVISORY  WRITE 7 08:02:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 00:2f:1234 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:2f:99 0 EOF\n";
        assert!(lists(table, 1234));
        assert!(!lists(table, 77) && !lists(table, 99) && !lists(table, 234));
    }

    #[test]
    fn the_lock_of_a_living_owner_is_seen_without_touching_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let owned = OwnedFolder::open(&path, "test").unwrap();
        let lock = owned.path().join("lock");
        assert!(is_locked(&lock));
        drop(owned);
        assert!(!is_locked(&lock));
        assert!(!is_locked(&dir.path().join("nothing")));
    }
}
