//! One index file: its form, its versions, reading it without writing, replacing it. Touches that file only.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use api_types::RelativePath;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::CatalogError;

/// Of the form below. A field more or less is another version: this program would drop what it does not know.
pub(crate) const SCHEMA: u64 = 1;

/// Larger than any index of a machine's models: a file that is no index is not read into memory.
const MAX_BYTES: u64 = 64 << 20;

/// Which version of a list somebody has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// SHA-256 of the index, hexadecimal: a strong validator, without the quotes that HTTP puts around it.
    pub etag: String,
    /// When it was written, by the wall clock, ms since 1970; 0 for an index that is not there yet.
    pub modified_unix_ms: u64,
}

impl Version {
    /// What `Last-Modified` may say, whole seconds since 1970. Nothing in the second of the change itself: another change
    /// in the same second would look like this one.
    #[must_use]
    pub const fn last_modified(&self, now_unix_ms: u64) -> Option<u64> {
        let second = self.modified_unix_ms / 1000;
        if now_unix_ms / 1000 > second {
            Some(second)
        } else {
            None
        }
    }

    /// Whether a reader who was told this second has this version.
    #[must_use]
    pub const fn is_unchanged_since(&self, unix_s: u64) -> bool {
        self.modified_unix_ms / 1000 <= unix_s
    }
}

/// An entry and its place in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered<T> {
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) entry: T,
}

/// The content of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index<T> {
    schema_version: u64,
    pub(crate) modified_unix_ms: u64,
    next_seq: u64,
    /// Oldest first.
    pub(crate) entries: Vec<Numbered<T>>,
    /// Files below the root that no entry names any more and that are still to be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) doomed: Vec<RelativePath>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA,
            modified_unix_ms: 0,
            next_seq: 0,
            entries: Vec::new(),
            doomed: Vec::new(),
        }
    }
}

impl<T> Index<T> {
    /// Adds an entry as the newest.
    pub(crate) fn push(&mut self, entry: T) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.entries.push(Numbered { seq, entry });
    }

    pub(crate) fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.entries
            .iter()
            .map(|numbered| &numbered.entry)
            .find(|entry| is_it(entry))
    }

    pub(crate) fn find_mut(&mut self, is_it: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.entries
            .iter_mut()
            .map(|numbered| &mut numbered.entry)
            .find(|entry| is_it(entry))
    }
}

/// An index as it was read.
#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    pub(crate) index: Index<T>,
    pub(crate) version: Version,
    /// Kept open, so that no other file gets its number while it is compared with.
    file: Option<File>,
}

/// An index on disk and what was last read of it.
#[derive(Debug)]
pub(crate) struct IndexFile<T> {
    path: PathBuf,
    last: Mutex<Option<Arc<Snapshot<T>>>>,
}

impl<T: Serialize + DeserializeOwned> IndexFile<T> {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            last: Mutex::new(None),
        }
    }

    /// The index as it is now; empty where there is none. Writes nothing.
    pub(crate) fn read(&self) -> Result<Arc<Snapshot<T>>, CatalogError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.as_ref().filter(|known| self.is_current(known)) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(self.read_file()?);
        *last = Some(Arc::clone(&read));
        Ok(read)
    }

    /// Every version is another file, because each one is renamed into place.
    fn is_current(&self, known: &Snapshot<T>) -> bool {
        let same = |file: &File| {
            let (known, now) = (file.metadata().ok()?, fs::metadata(&self.path).ok()?);
            let identity = |of: &fs::Metadata| (of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec());
            Some(identity(&known) == identity(&now))
        };
        known.file.as_ref().and_then(same).unwrap_or(false)
    }

    fn read_file(&self) -> Result<Snapshot<T>, CatalogError> {
        let at = CatalogError::at(&self.path);
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Snapshot::empty()),
            Err(error) => return Err(at(error)),
        };
        let mut bytes = Vec::new();
        let read = file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(CatalogError::at(&self.path))?;
        if bytes.len() as u64 > MAX_BYTES {
            let rule = format!("{} is larger than {MAX_BYTES} bytes", self.path.display());
            return Err(CatalogError::entry("index", rule));
        }
        let index = self.parse(&bytes)?;
        let version = Version {
            etag: hex::encode(Sha256::digest(&bytes)),
            modified_unix_ms: index.modified_unix_ms,
        };
        Ok(Snapshot {
            index,
            version,
            file: Some(file),
        })
    }

    fn parse(&self, bytes: &[u8]) -> Result<Index<T>, CatalogError> {
        #[derive(Deserialize)]
        struct Head {
            schema_version: u64,
        }
        let damaged = |source| CatalogError::Damaged {
            path: self.path.clone(),
            source,
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.schema_version != SCHEMA {
            return Err(CatalogError::Schema {
                path: self.path.clone(),
                found: head.schema_version,
                known: SCHEMA,
            });
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Replaces the index. The caller has the turn, so `next` comes from what is there.
    pub(crate) fn write(&self, mut next: Index<T>, now_unix_ms: u64) -> Result<(), CatalogError> {
        // A clock that was set back must not make a new version look older than its predecessor.
        next.modified_unix_ms = next.modified_unix_ms.max(now_unix_ms);
        let bytes =
            serde_json::to_vec_pretty(&next).map_err(|error| CatalogError::at(&self.path)(error.into()))?;
        owned_folder::replace_file(&self.path, &bytes).map_err(CatalogError::at(&self.path))
    }
}

impl<T> Snapshot<T> {
    fn empty() -> Self {
        Self {
            index: Index::default(),
            version: Version {
                etag: hex::encode(Sha256::digest([])),
                modified_unix_ms: 0,
            },
            file: None,
        }
    }
}
