//! What will be done, as data: shown, kept, and then executed as it stands.

use std::fmt;
use std::path::PathBuf;

use api_types::{ModelId, ModelRef, RelativePath, Sha256Digest};
use serde::Serialize;
use url::Url;

/// Where a file comes from. No credential is part of it: they are looked up again when they are needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The model hub, at this URL.
    Hub(Url),
    /// A web server.
    Web(#[serde(skip)] Url),
    /// Object storage.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key in it.
        key: String,
    },
    /// A blob of a registry.
    Blob {
        /// `host[:port]`.
        registry: String,
        /// The repository.
        repository: String,
    },
    /// A file of this machine, which stays where it is.
    Local(PathBuf),
}

/// One file of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    /// Its name inside the model.
    pub name: RelativePath,
    /// Its size, where the source tells it.
    pub bytes: Option<u64>,
    /// The digest it must have, where it is known.
    pub sha256: Option<Sha256Digest>,
    /// Its validator, where the source has one.
    pub etag: Option<String>,
    /// Where it comes from.
    pub place: Place,
    /// Whether its content is in the cache already.
    pub cached: bool,
}

/// Everything that will be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What the model will be called.
    pub id: ModelId,
    /// What was asked for.
    #[serde(skip)]
    pub source: ModelRef,
    /// What that is right now: with the commit or digest it was resolved to.
    pub resolved: String,
    /// Its files, the one an engine is given first.
    pub files: Vec<PlannedFile>,
    /// Bytes that are still to be downloaded, as far as sizes are known.
    pub download_bytes: u64,
    /// Bytes free on the disk of the cache root.
    pub free_bytes: u64,
    /// The model is in the catalog already, whole: nothing will be done but to make it active.
    pub present: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} from {}", self.id, self.resolved)?;
        for file in &self.files {
            let size = file
                .bytes
                .map_or_else(|| "size unknown".to_owned(), |bytes| format!("{bytes} bytes"));
            let digest = file
                .sha256
                .map_or_else(|| "no digest known".to_owned(), |digest| digest.to_string());
            let done = match (&file.place, file.cached) {
                (Place::Local(_), _) => "stays where it is",
                (_, true) => "is here already",
                (_, false) => "to download",
            };
            writeln!(f, "  {} ({size}, {digest}): {done}", file.name)?;
        }
        write!(
            f,
            "{} bytes to download, {} free",
            self.download_bytes, self.free_bytes
        )
    }
}
