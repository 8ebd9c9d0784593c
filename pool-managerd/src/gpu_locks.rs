//! Which daemon of this host has which GPU. State directories tell two daemons apart; two of them on one GPU would fight
//! over its memory, so each marks the GPUs of its pools with a lock that ends with it. May touch the folder of the locks.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use config_schema::PoolManagerd;
use owned_folder::{FolderError, OwnedFolder};

/// Where locks are made, the first that can be.
const USUAL: [&str; 2] = ["/run/lock/llama-orch", "/tmp/llama-orch-locks"];

/// Every user of the host may make locks there, and nobody takes away another's, as in `/tmp`.
const SHARED: u32 = 0o1777;

/// Why a GPU cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GpuLockError {
    /// There is no place for locks.
    #[error("the folder {} for GPU locks cannot be made; set pool_managerd.gpu_lock_dir", path.display())]
    Folder {
        /// The last that was tried.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("GPU {uuid} cannot be taken: one pool-managerd of a host has it at a time")]
    Taken {
        /// The GPU.
        uuid: String,
        /// Who, where it is known.
        #[source]
        source: FolderError,
    },
}

/// The GPUs of all pools, held until this is dropped.
#[derive(Debug)]
pub struct GpuLocks(#[expect(dead_code, reason = "held, not looked at")] Vec<OwnedFolder>);

impl GpuLocks {
    /// Takes every GPU that a pool names.
    ///
    /// # Errors
    /// [`GpuLockError`]; then none is held.
    pub fn take(node: &PoolManagerd) -> Result<Self, GpuLockError> {
        let devices = node.pools.iter().flat_map(|pool| &pool.devices);
        let uuids: BTreeSet<&str> = devices.map(|uuid| uuid.as_str()).collect();
        if uuids.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let folder = folder(node.gpu_lock_dir.as_deref())?;
        let locks = uuids
            .into_iter()
            .map(|uuid| lock(&folder, uuid))
            .collect::<Result<_, _>>()?;
        Ok(Self(locks))
    }
}

fn folder(configured: Option<&Path>) -> Result<PathBuf, GpuLockError> {
    let candidates =
        configured.map_or_else(|| USUAL.map(PathBuf::from).to_vec(), |path| vec![path.to_owned()]);
    let mut refused = None;
    for path in candidates {
        match shared_folder(&path) {
            Ok(()) => return Ok(path),
            Err(source) => refused = Some(GpuLockError::Folder { path, source }),
        }
    }
    Err(refused.unwrap_or_else(|| GpuLockError::Folder {
        path: PathBuf::new(),
        source: io::ErrorKind::NotFound.into(),
    }))
}

fn shared_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(SHARED).create(path)?;
    // Whatever this process's mask has taken away.
    fs::set_permissions(path, Permissions::from_mode(SHARED))
}

/// An instance of a card may have slashes in its name.
fn lock(folder: &Path, uuid: &str) -> Result<OwnedFolder, GpuLockError> {
    let taken = |source| GpuLockError::Taken {
        uuid: uuid.to_owned(),
        source,
    };
    OwnedFolder::open(&folder.join(uuid.replace('/', "_")), "pool-managerd").map_err(taken)
}
