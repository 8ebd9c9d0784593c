//! Giving a file new content. Touches that file, one of the same name with `.new` behind it, and their folder.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::PRIVATE_FILE;

/// Gives the file this content, all of it or none, also when the power fails. What a crash leaves half-written is not under
/// the file's name, and the next call writes over it; so that no other one does meanwhile, the caller holds a lock.
///
/// # Errors
/// The operating system's. The file then has its old content, unless only the last sync failed: then it may have either.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = beside(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE_FILE)
        .open(&next)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Whether a disk, or what somebody may use of it, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| full.contains(&code))
}

/// Makes the names in a folder survive a power cut.
///
/// # Errors
/// The operating system's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_over_what_a_crash_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        replace_file(&path, b"old").unwrap();
        fs::write(beside(&path), "half of something that is lon").unwrap();
        replace_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(!beside(&path).exists());
    }
}
