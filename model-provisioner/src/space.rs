//! Whether the disk has room. Reads file system statistics.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

use crate::error::ProvisionError;

/// Bytes that may still be written where the folder is or will be.
pub(crate) fn free(path: &Path) -> io::Result<u64> {
    let there = path
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or_else(|| Path::new("/"));
    let disk = statvfs(there)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Checks that a download leaves room to spare.
pub(crate) fn check(path: &Path, needs: u64, free: u64, spare_percent: u64) -> Result<(), ProvisionError> {
    let spare = (needs / 100).saturating_mul(spare_percent);
    if needs.saturating_add(spare) <= free {
        return Ok(());
    }
    Err(ProvisionError::NoSpace {
        path: path.to_owned(),
        needs,
        spare,
        free,
    })
}
