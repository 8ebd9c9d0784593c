//! Removing below a folder and nowhere else: no symbolic link on the way is followed, so nobody can lead a removal out.
//! Touches what it is told to remove and the empty folders above it.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, unlinkat};
use rustix::io::Errno;

/// The folder that removals stay in.
pub(crate) struct Beneath {
    root: OwnedFd,
}

impl Beneath {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: openat(CWD, root, flags, Mode::empty())?,
        })
    }

    /// Removes a file; one that is not there counts as removed. Folders that become empty go too, up to the first
    /// component, which stays.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match self.unlink(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.prune(parent);
        Ok(())
    }

    fn unlink(&self, parent: &Path, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
        let folder = self.folder(parent)?;
        unlinkat(folder, name, flags)
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            // The kernel asks to try again when something was renamed meanwhile.
            match openat2(&self.root, path, flags, Mode::empty(), stay) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
    }

    /// A folder that is not empty, or that cannot be removed, stays: it harms nobody.
    fn prune(&self, from: &Path) {
        let mut folder: PathBuf = from.to_owned();
        while folder.components().count() > 1 {
            let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
                return;
            };
            if self.unlink(parent, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            folder = parent.to_owned();
        }
    }
}
