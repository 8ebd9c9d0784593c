//! Files that are there whole or not at all, also after a power cut. Readable by their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use owned_folder::{PRIVATE_FILE, private_dir};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// Between two looks at what is written: large enough that hashing dominates.
const CHUNK: usize = 64 << 10;

/// Makes a folder and what leads to it; a new name is synced.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    private_dir(path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder survive a power cut.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Gives out names for files that are not finished, all in one folder.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    next: AtomicU64,
}

impl Scratch {
    /// Opens the folder and removes what a crash has left in it; tells how many files that were.
    pub(crate) fn open(path: PathBuf) -> io::Result<(Self, usize)> {
        folder(&path)?;
        let mut left = 0;
        for entry in fs::read_dir(&path)? {
            fs::remove_file(entry?.path())?;
            left += 1;
        }
        let next = AtomicU64::new(0);
        Ok((Self { folder: path, next }, left))
    }

    /// Writes a new file, hashing what is written, and syncs it.
    pub(crate) fn write(&self, content: &[u8]) -> io::Result<Draft> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.folder.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(PRIVATE_FILE)
            .open(&path)?;
        // From here on the file goes away again unless it is put in its place.
        let mut draft = Draft {
            path: Some(path),
            digest: [0; 32],
        };
        let mut hasher = Sha256::new();
        for chunk in content.chunks(CHUNK) {
            file.write_all(chunk)?;
            hasher.update(chunk);
        }
        file.sync_all()?;
        draft.digest = hasher.finalize().into();
        Ok(draft)
    }
}

/// A whole, synced file that does not have its name yet.
#[derive(Debug)]
pub(crate) struct Draft {
    path: Option<PathBuf>,
    digest: [u8; 32],
}

/// What was at the place of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    New,
    Taken,
}

impl Draft {
    pub(crate) const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Gives it its name, unless that is taken.
    pub(crate) fn place(mut self, to: &Path) -> io::Result<Placed> {
        let Some(from) = &self.path else {
            return Ok(Placed::Taken);
        };
        let placed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.path = None;
                Placed::New
            }
            Err(Errno::EXIST) => return Ok(Placed::Taken),
            // Not every file system knows the flag; a link refuses a taken name as well, and the draft goes on drop.
            Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(from, to) {
                Ok(()) => Placed::New,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Placed::Taken),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error.into()),
        };
        to.parent().map_or(Ok(()), sync_folder)?;
        Ok(placed)
    }

    /// Gives it its name, whatever has it.
    pub(crate) fn replace(mut self, to: &Path) -> io::Result<()> {
        if let Some(from) = &self.path {
            fs::rename(from, to)?;
            self.path = None;
        }
        to.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, "an unfinished artifact file cannot be removed; the next start does it");
        }
    }
}

/// The files of `root/<2>/<name>`, in no order.
pub(crate) fn files_of(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in fs::read_dir(root)? {
        let part = part?.path();
        if !part.is_dir() {
            continue;
        }
        for entry in fs::read_dir(part)? {
            files.push(entry?.path());
        }
    }
    Ok(files)
}
