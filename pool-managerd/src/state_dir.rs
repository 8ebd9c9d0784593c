//! The folder that one pool-managerd owns: its lock, its engines' keys, its digest cache. Nobody else writes
//! there, and two managers never share one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use api_types::{PoolId, ReplicaId};
pub use owned_folder::FolderError as StateDirError;
use owned_folder::{OwnedFolder, PRIVATE_FILE, replace_file};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

/// The opened folder. The lock is held as long as this lives.
#[derive(Debug)]
pub struct StateDir(OwnedFolder);

/// Who owns it.
const OWNER: &str = "pool-managerd";

impl StateDir {
    /// Makes the folder where it is not there yet, and takes its lock.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn open(root: &Path) -> Result<Self, StateDirError> {
        OwnedFolder::open(root, OWNER).map(Self)
    }

    /// Where model files are looked for that a pool names by a relative path.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    /// The digest cache.
    #[must_use]
    pub fn digests(&self) -> PathBuf {
        self.0.path().join("digests.json")
    }

    /// The private folder of what the pools are to serve.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn rollouts(&self) -> Result<PathBuf, StateDirError> {
        self.0.folder("rollouts")
    }

    /// The file that this daemon holds a lock on.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.0.lock_file()
    }

    /// Below it, every replica has a folder.
    #[must_use]
    pub fn engines(&self) -> PathBuf {
        self.0.path().join("engines")
    }

    /// The private folder of one replica's engines.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn engine_dir(&self, pool: &PoolId, replica: &ReplicaId) -> Result<PathBuf, StateDirError> {
        let name = Path::new("engines").join(pool.as_str()).join(replica.as_str());
        self.0.folder(name)
    }
}

/// Writes a document: all of it or nothing, even when the power fails. Each has one writer. Blocking.
///
/// # Errors
/// The operating system's; the file is as it was then.
pub fn write_whole(file: &Path, document: &impl Serialize) -> io::Result<()> {
    replace_file(file, &serde_json::to_vec(document)?)
}

/// Writes an engine's API key where only this user can read it.
///
/// # Errors
/// The operating system's.
pub fn write_key(path: &Path, key: &SecretString) -> io::Result<()> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE_FILE)
        .open(path)?;
    file.write_all(key.expose_secret().as_bytes())?;
    file.write_all(b"\n")
}

/// Reads what [`write_key`] wrote.
///
/// # Errors
/// The operating system's.
pub fn read_key(path: &Path) -> io::Result<SecretString> {
    let text = fs::read_to_string(path)?;
    Ok(SecretString::from(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_manager_is_refused_by_name_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("deep/state");
        let first = StateDir::open(&root).unwrap();
        let error = StateDir::open(&root).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(first);
        StateDir::open(&root).unwrap();
    }

    #[test]
    fn keys_and_folders_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("s")).unwrap();
        let ids = (PoolId::new("p").unwrap(), ReplicaId::new("r").unwrap());
        let dir = state.engine_dir(&ids.0, &ids.1).unwrap();
        let key = dir.join("api-key");
        write_key(&key, &SecretString::from("old")).unwrap();
        write_key(&key, &SecretString::from("new")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&key), mode(&dir)), (0o600, 0o700));
        assert_eq!(read_key(&key).unwrap().expose_secret(), "new");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
