//! A disk that a test can break: `libfaulty_disk.so` and the file that drives it. Touches that file.

use std::io;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::binaries;

/// The faults of one program's disk.
#[derive(Debug)]
pub struct FaultyDisk {
    folder: TempDir,
    library: PathBuf,
}

impl FaultyDisk {
    /// A disk without faults.
    ///
    /// # Errors
    /// The library does not build, or there is no room for the file.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            library: binaries::plugin("libfaulty_disk.so")?,
        })
    }

    /// What the program's environment needs.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAULTY_DISK_FILE", self.file()),
        ]
    }

    /// From now on the disk has these faults and no others, one per line: `sync EIO`.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn set(&self, faults: &str) -> io::Result<()> {
        let next = self.folder.path().join("next");
        std::fs::write(&next, faults)?;
        std::fs::rename(next, self.file())
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("faults")
    }
}
