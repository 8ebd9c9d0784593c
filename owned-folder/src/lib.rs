//! A private folder that one process owns: how it is made, its lock, the modes of what is in it, and how a file in it is
//! replaced. A folder that several processes write to is theirs in turn. May touch that folder.

mod replace;
mod turn;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

pub use replace::{is_full, replace_file, sync_folder};
pub use turn::Turn;

/// Readable, writable and enterable by the owner only.
const PRIVATE_DIR: u32 = 0o700;
/// Mode of a file that its owner only may read and write.
pub const PRIVATE_FILE: u32 = 0o600;

/// The file in the folder that its owner locks.
const LOCK: &str = "lock";

/// The opened folder. The lock is held as long as this lives.
#[derive(Debug)]
pub struct OwnedFolder {
    path: PathBuf,
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made or entered.
    #[error("folder {} cannot be used", path.display())]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("folder {} is in use by another {owner}{holder}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// What owns such folders.
        owner: &'static str,
        /// ` (pid 17)`, where it is known.
        holder: String,
    },
}

impl FolderError {
    /// For `map_err`: what could not be used.
    pub fn unusable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Unusable { path, source }
    }
}

impl OwnedFolder {
    /// Makes the folder where it is not there yet, and takes its lock. `owner` names the program in errors.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(path: &Path, owner: &'static str) -> Result<Self, FolderError> {
        private_dir(path).map_err(FolderError::unusable(path))?;
        let path = path.canonicalize().map_err(FolderError::unusable(path))?;
        let name = path.join(LOCK);
        let mut lock = private_file(&name).map_err(FolderError::unusable(&name))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let holder = holder(&mut lock);
            return Err(FolderError::Locked { path, owner, holder });
        }
        sign(&mut lock).map_err(FolderError::unusable(&name))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file whose lock is held.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// A private folder below it, made where it is not there yet.
    ///
    /// # Errors
    /// [`FolderError::Unusable`].
    pub fn folder(&self, name: impl AsRef<Path>) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        private_dir(&path).map_err(FolderError::unusable(&path))?;
        Ok(path)
    }
}

/// Makes a private folder and what leads to it.
///
/// # Errors
/// The operating system's.
pub fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path)
}

/// Opens a private file to read and write, made where it is not there yet.
///
/// # Errors
/// The operating system's.
pub fn private_file(path: &Path) -> io::Result<File> {
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_below_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let owned = OwnedFolder::open(&parent.path().join("deep/state"), "test").unwrap();
        let below = owned.folder("a/b").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(owned.path()), mode(&below)), (0o700, 0o700));
        assert_eq!(mode(&owned.path().join("lock")), 0o600);
    }
}
