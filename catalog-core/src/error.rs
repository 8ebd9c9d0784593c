//! What can go wrong, by what a caller does about it.

use std::io;
use std::path::{Path, PathBuf};

/// A call that changed nothing, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The index was written by another version of the program.
    #[error(
        "{} has schema version {found}, this program knows {known}; run the version that wrote it, or move the file away \
         and register its entries anew (`llama-orch models add`): the files that it names stay where they are",
        path.display()
    )]
    Schema {
        /// The index.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The version that is read and written here.
        known: u64,
    },
    /// The index is not what was written.
    #[error(
        "{} is damaged; restore it, or move it away and register its entries anew (`llama-orch models add`)",
        path.display()
    )]
    Damaged {
        /// The index.
        path: PathBuf,
        /// The parser's complaint.
        #[source]
        source: serde_json::Error,
    },
    /// No entry has this id.
    #[error("{kind} {id} is not in the catalog")]
    Unknown {
        /// `model` or `engine`.
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// The id is taken by something else.
    #[error("{kind} {id} is in the catalog already, with digest {known}; remove it or choose another id")]
    Taken {
        /// `model` or `engine`.
        kind: &'static str,
        /// The id.
        id: String,
        /// What has it.
        known: String,
    },
    /// An entry that cannot be registered as it is.
    #[error("{field}: {rule}")]
    Entry {
        /// Which field.
        field: &'static str,
        /// What it must satisfy.
        rule: String,
    },
    /// The disk has no room for the index.
    #[error("the disk of {} is full", path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
}

impl CatalogError {
    /// For `map_err`: what could not be used.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| {
            if owned_folder::is_full(&source) {
                Self::DiskFull { path }
            } else {
                Self::Io { path, source }
            }
        }
    }

    pub(crate) fn entry(field: &'static str, rule: impl Into<String>) -> Self {
        Self::Entry {
            field,
            rule: rule.into(),
        }
    }
}
