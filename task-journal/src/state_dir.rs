//! The folder that one orchestrator owns: its lock and where its files are. Two never share one.

use std::fs::File;
use std::path::{Path, PathBuf};

pub use owned_folder::FolderError as StateDirError;
use owned_folder::{OwnedFolder, private_file};
use rustix::fs::statvfs;

/// The opened folder. The lock is held as long as this lives.
#[derive(Debug)]
pub struct StateDir(OwnedFolder);

/// Who owns the folder, and its name in a state directory that other daemons may use as well.
const OWNER: &str = "orchestratord";
const JOURNAL: &str = "tasks.redb";

impl StateDir {
    /// Makes the orchestrator's folder below `state_dir` where it is not there yet, and takes its
    /// lock.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn open(state_dir: &Path) -> Result<Self, StateDirError> {
        let folder = OwnedFolder::open(&state_dir.join(OWNER), OWNER)?;
        let journal = folder.path().join(JOURNAL);
        private_file(&journal).map_err(StateDirError::unusable(&journal))?;
        // The names of new files must survive a power cut as their contents do.
        File::open(folder.path())
            .and_then(|folder| folder.sync_all())
            .map_err(StateDirError::unusable(folder.path()))?;
        Ok(Self(folder))
    }

    /// The journal of tasks.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root().join(JOURNAL)
    }

    /// The folder of transcripts.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn transcripts(&self) -> Result<PathBuf, StateDirError> {
        self.0.folder("transcripts")
    }

    /// The folder of artifacts, which their store makes.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.root().join("artifacts")
    }

    /// Free bytes of its disk, for an unprivileged writer; `None` when it cannot be told.
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        room(self.root())
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.0.path()
    }
}

/// Free bytes of the disk of `path`.
fn room(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
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
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(state.root()), mode(&state.journal())), (0o700, 0o600));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
