//! The folder that one pool-managerd owns: its lock, its engines' keys, its digest cache. Nobody else writes
//! there, and two managers never share one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use api_types::{PoolId, ReplicaId};
use rustix::fs::{FlockOperation, flock};
use secrecy::{ExposeSecret, SecretString};

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
    /// Another manager has it.
    #[error("state directory {} is in use by another pool-managerd{holder}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (pid 17)`, where it is known.
        holder: String,
    },
}

/// Readable, writable and enterable by the owner only: the folder holds engine keys.
const PRIVATE_DIR: u32 = 0o700;
/// Readable and writable by the owner only.
const PRIVATE_FILE: u32 = 0o600;

impl StateDir {
    /// Makes the folder where it is not there yet, and takes its lock.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn open(root: &Path) -> Result<Self, StateDirError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| StateDirError::Unusable { path, source }
        };
        private_dir(root).map_err(unusable(root))?;
        let root = root.canonicalize().map_err(unusable(root))?;
        let path = root.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_FILE)
            .open(&path)
            .map_err(unusable(&path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(StateDirError::Locked {
                path: root,
                holder: holder(&mut lock),
            });
        }
        sign(&mut lock).map_err(unusable(&path))?;
        Ok(Self { root, _lock: lock })
    }

    /// Where model files are looked for that a pool names by a relative path.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// The digest cache.
    #[must_use]
    pub fn digests(&self) -> PathBuf {
        self.root.join("digests.json")
    }

    /// The private folder of one replica's engines.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn engine_dir(&self, pool: &PoolId, replica: &ReplicaId) -> Result<PathBuf, StateDirError> {
        let path = self
            .root
            .join("engines")
            .join(pool.as_str())
            .join(replica.as_str());
        match private_dir(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(StateDirError::Unusable { path, source }),
        }
    }
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

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(path)
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
        assert_eq!(fs::read_to_string(&key).unwrap(), "new\n");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}
