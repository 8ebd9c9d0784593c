//! What is known of the files a pool is made of: whether they are there, which version of them, and their
//! digests. Each file is watched by two loops of its own, so that a disk that hangs delays nothing else.

mod digest;
mod watcher;

use std::path::{Path, PathBuf};

use crate::fetches::Fetched;

pub use digest::{DigestCache, DigestError};
pub use watcher::{FileWatcher, WatchedFile, identity_at};

/// Tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileIdentity {
    /// File system.
    pub device: u64,
    /// File in it.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, seconds since 1970.
    pub modified_s: i64,
    /// And nanoseconds.
    pub modified_ns: i64,
}

/// The files one start of an engine uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Inputs {
    /// The model file.
    pub model: Option<FileIdentity>,
    /// The engine.
    pub engine: Option<EngineIdentity>,
}

/// Tells one engine from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EngineIdentity {
    /// A program of this machine.
    File(FileIdentity),
    /// An image, by the SHA-256 that is its id.
    Image([u8; 32]),
}

/// What a file is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Must be readable.
    Model,
    /// Must be executable.
    Engine,
}

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// An absolute path.
    Path(PathBuf),
    /// A bare name, in each of these folders, first match wins.
    Search {
        /// The name.
        name: PathBuf,
        /// The folders.
        folders: Vec<PathBuf>,
    },
    /// An absolute path that must not lead out of these folders, not through links either.
    Below {
        /// The path.
        path: PathBuf,
        /// The folders.
        roots: Vec<PathBuf>,
    },
    /// In the catalog, or on its way there.
    Fetched {
        /// The model.
        model: Fetched,
        /// Where to look when the catalog does not have it.
        otherwise: Option<Box<Self>>,
    },
}

impl Location {
    /// The same, but what is a path must not lead out of these folders. What is in the catalog an operator, or a pool's
    /// configuration, has put there.
    #[must_use]
    pub fn confined(self, roots: &[PathBuf]) -> Self {
        match self {
            Self::Path(path) => Self::Below {
                path,
                roots: roots.to_vec(),
            },
            Self::Fetched { model, otherwise } => Self::Fetched {
                model,
                otherwise: otherwise.map(|otherwise| Box::new(otherwise.confined(roots))),
            },
            other @ (Self::Search { .. } | Self::Below { .. }) => other,
        }
    }

    /// `name` in the folders of a `PATH`, or itself when it is absolute.
    #[must_use]
    pub fn in_search_path(name: &Path, search_path: &str) -> Self {
        if name.is_absolute() {
            return Self::Path(name.to_owned());
        }
        Self::Search {
            name: name.to_owned(),
            folders: std::env::split_paths(search_path).collect(),
        }
    }
}

/// Whether a file can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Not looked at yet.
    Unknown,
    /// It cannot be used; says which file and why.
    Missing(String),
    /// It is being fetched; says how far that is.
    Coming(String),
    /// It can.
    Present {
        /// Where it was found.
        path: PathBuf,
        /// Which version.
        identity: FileIdentity,
        /// What of a model has to be on GPUs at least, bytes, where its header tells.
        weights: Option<u64>,
    },
}

/// The digest of one version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Which version.
    pub identity: FileIdentity,
    /// `sha256:…`.
    pub sha256: String,
}
