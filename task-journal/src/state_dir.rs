//! The folder that one orchestrator owns: its lock and where its files are. Two never share one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};

/// The opened folder. The lock is held as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or entered.
    #[error("state directory {} cannot be used", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// Another orchestrator has it.
    #[error("state directory {} is in use by another orchestratord{holder}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (pid 17)`, where it is known.
        holder: String,
    },
}

/// The orchestrator's part of a state directory that other daemons may use as well.
const OWN_FOLDER: &str = "orchestratord";
/// Readable, writable and enterable by the owner only: requests are people's texts.
const PRIVATE_DIR: u32 = 0o700;
/// Readable and writable by the owner only.
const PRIVATE_FILE: u32 = 0o600;

impl StateDir {
    /// Makes the orchestrator's folder below `state_dir` where it is not there yet, and takes its
    /// lock.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn open(state_dir: &Path) -> Result<Self, StateDirError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| StateDirError::Unusable { path, source }
        };
        let root = state_dir.join(OWN_FOLDER);
        private_dir(&root).map_err(unusable(&root))?;
        let root = root.canonicalize().map_err(unusable(&root))?;
        let path = root.join("lock");
        let mut lock = private_file(&path).map_err(unusable(&path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StateDirError::Locked {
                path: root,
                holder: holder(&mut lock),
            });
        }
        sign(&mut lock).map_err(unusable(&path))?;
        let journal = root.join("tasks.redb");
        private_file(&journal).map_err(unusable(&journal))?;
        // The names of new files must survive a power cut as their contents do.
        File::open(&root)
            .and_then(|folder| folder.sync_all())
            .map_err(unusable(&root))?;
        Ok(Self { root, _lock: lock })
    }

    /// The journal of tasks.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("tasks.redb")
    }

    /// The folder of transcripts.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn transcripts(&self) -> Result<PathBuf, StateDirError> {
        let path = self.root.join("transcripts");
        match private_dir(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(StateDirError::Unusable { path, source }),
        }
    }

    /// The folder of artifacts, which their store makes.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Free bytes of its disk, for an unprivileged writer; `None` when it cannot be told.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        room(&self.root)
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Free bytes of the disk of `path`.
fn room(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path)?;
    fs::metadata(path).map(drop)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE_FILE)
        .open(path)
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> String {
    let mut pid = String::new();
    match lock.read_to_string(&mut pid) {
        Ok(1..) if pid.bytes().all(|b| b.is_ascii_digit()) => format!(" (pid {pid})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_orchestrator_is_refused_by_name_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("deep/state");
        let first = StateDir::open(&root).unwrap();
        assert!(first.room().is_some());
        let error = StateDir::open(&root).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(first);
        StateDir::open(&root).unwrap();
    }

    #[test]
    fn what_people_asked_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(state.root()), mode(&state.journal())), (0o700, 0o600));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
