//! From verified bytes to files that an engine finds: by content below `blobs`, by name below `models`. Blocking. Whatever
//! stops this half-way leaves nothing that the catalog shows, and the next run goes over it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api_types::{ModelId, RelativePath, Sha256Digest};
use catalog_core::layout;
use downloader::FetchError;
use owned_folder::{private_dir, sync_folder};

/// The folder of a pull's own names for its files, until they are published.
pub(crate) fn staging(root: &Path, key: &Sha256Digest) -> PathBuf {
    root.join(layout::partial(key)).join("files")
}

/// The whole file of this content, if it is here with this size.
pub(crate) fn blob(root: &Path, digest: &Sha256Digest, bytes: Option<u64>) -> Option<(PathBuf, u64)> {
    let path = root.join(layout::blob(digest));
    let found = path.symlink_metadata().ok().filter(fs::Metadata::is_file)?;
    bytes
        .is_none_or(|bytes| bytes == found.len())
        .then_some((path, found.len()))
}

/// Gives verified bytes their place by content.
pub(crate) fn keep(root: &Path, digest: &Sha256Digest, data: &Path) -> Result<PathBuf, FetchError> {
    let path = root.join(layout::blob(digest));
    folder_of(&path)?;
    fs::rename(data, &path).map_err(FetchError::at(&path))?;
    synced(&path)?;
    Ok(path)
}

/// Gives a file another name.
pub(crate) fn name(from: &Path, to: &Path) -> Result<(), FetchError> {
    folder_of(to)?;
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Of an earlier run, perhaps of other bytes.
            fs::remove_file(to).map_err(FetchError::at(to))?;
            fs::hard_link(from, to).map_err(FetchError::at(to))?;
        }
        // A file system without links, or too many of them.
        Err(_) => copy(from, to)?,
    }
    synced(to)
}

/// Where a model's file is published, and publishes it.
pub(crate) fn publish(
    root: &Path,
    id: &ModelId,
    digest: &Sha256Digest,
    file: &RelativePath,
    from: &Path,
) -> Result<RelativePath, FetchError> {
    let to = layout::published_file(id, digest, file);
    let to =
        to.map_err(|error| FetchError::at(from)(io::Error::new(io::ErrorKind::InvalidFilename, error)))?;
    name(from, &root.join(to.as_path()))?;
    Ok(to)
}

/// Removes a folder of the cache root with everything in it; links in it are removed, not followed.
pub(crate) fn clear(folder: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FetchError::at(folder)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), FetchError> {
    let whole = || {
        fs::copy(from, to)?;
        fs::File::open(to)?.sync_all()
    };
    whole().map_err(FetchError::at(to))
}

fn folder_of(path: &Path) -> Result<(), FetchError> {
    let folder = path.parent().unwrap_or(path);
    private_dir(folder).map_err(FetchError::at(folder))
}

fn synced(path: &Path) -> Result<(), FetchError> {
    let folder = path.parent().unwrap_or(path);
    sync_folder(folder).map_err(FetchError::at(folder))
}
