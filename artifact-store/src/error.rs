//! What can go wrong, by what a caller does about it.

use std::io;
use std::path::{Path, PathBuf};

use api_types::{ArtifactId, ArtifactKind};

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the artifacts in {} cannot be opened", path.display())]
pub struct OpenError {
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's reason.
    #[source]
    pub source: io::Error,
}

impl OpenError {
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self { path, source }
    }
}

/// Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The content is larger than one artifact may be.
    #[error("content: has {bytes} bytes, at most {max_bytes} are allowed")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// The same content is there as something else.
    #[error("{field}: the same content is already stored as {known}")]
    Differs {
        /// What differs.
        field: &'static str,
        /// What is there.
        known: String,
    },
    /// With the tags that are there, it would have too many.
    #[error("tags: it would have {tags} tags, at most {max} are allowed")]
    TooManyTags {
        /// Tags that it would have.
        tags: usize,
        /// The bound.
        max: usize,
    },
    /// The disk has no room.
    #[error("the disk of the artifacts is full")]
    DiskFull,
    /// The disk fails.
    #[error("the artifact cannot be written")]
    Io(#[source] io::Error),
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> Self {
        if owned_folder::is_full(&error) {
            Self::DiskFull
        } else {
            Self::Io(error)
        }
    }
}

impl PutError {
    pub(crate) fn other_kind(known: ArtifactKind) -> Self {
        Self::Differs {
            field: "kind",
            known: known.to_string(),
        }
    }
}

/// An artifact that is there and cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Its bytes are not those that its id names.
    #[error("artifact {id} is damaged on the disk")]
    Damaged {
        /// The artifact.
        id: ArtifactId,
    },
    /// It cannot be read.
    #[error("artifact {id} cannot be read")]
    Io {
        /// The artifact.
        id: ArtifactId,
        /// Why.
        #[source]
        source: io::Error,
    },
}
