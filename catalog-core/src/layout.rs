//! Where everything lies below the cache root. Paths are joined from digests, ids and checked names alone.
//!
//! ```text
//! models.json engines.json usage.json    the indices
//! turn                                   taken for a change of an index
//! blobs/sha256/<2>/<hex>                 whole files, by content
//! models/<id>/<16>/<name>                the same files by name (hard links), as engines want them
//! partial/<hex>/                         what is being fetched
//! turns/<hex>                            taken by whoever fetches or publishes that content
//! ```

use std::path::{Path, PathBuf};

use api_types::{ModelId, RelativePath, Sha256Digest};

/// Digits of a digest that tell the versions of one model apart.
const VERSION_DIGITS: usize = 16;

/// The folder of whole files.
pub const BLOBS: &str = "blobs/sha256";
/// The folder of published models.
pub const MODELS: &str = "models";
/// The folder of what is being fetched.
pub const PARTIAL: &str = "partial";
/// The folder of the locks on contents.
pub const TURNS: &str = "turns";

/// A whole file.
#[must_use]
pub fn blob(digest: &Sha256Digest) -> PathBuf {
    let hex = digest.hex();
    Path::new(BLOBS).join(&hex[..2]).join(hex)
}

/// The folder of one version of a model.
#[must_use]
pub fn published(id: &ModelId, digest: &Sha256Digest) -> PathBuf {
    Path::new(MODELS)
        .join(id.as_str())
        .join(&digest.hex()[..VERSION_DIGITS])
}

/// The folder of what is being fetched of a content; `key` is its digest, or that of what else names it.
#[must_use]
pub fn partial(key: &Sha256Digest) -> PathBuf {
    Path::new(PARTIAL).join(key.hex())
}

/// The lock on a content.
#[must_use]
pub fn turn(key: &Sha256Digest) -> PathBuf {
    Path::new(TURNS).join(key.hex())
}

/// The file of a published model, as an entry names it.
///
/// # Errors
/// The name is too long behind its folder.
pub fn published_file(
    id: &ModelId,
    digest: &Sha256Digest,
    name: &RelativePath,
) -> Result<RelativePath, api_types::PathError> {
    let path = published(id, digest).join(name.as_path());
    RelativePath::new(&path.to_string_lossy())
}
