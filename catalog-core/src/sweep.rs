//! Finding what nobody names any more: files of removals that did not finish, what crashes have left between publishing and
//! registering, downloads that nobody goes on with.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use api_types::{RelativePath, Sha256Digest};

use crate::beneath::Beneath;
use crate::catalog::{Catalog, named_files};
use crate::error::CatalogError;
use crate::layout;
use crate::remove::relative;

/// Deepest folder below a published model: repositories are far flatter.
const DEEPEST: u32 = 16;

/// What a sweep has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files that no entry named.
    pub files: usize,
    /// Their sizes, bytes. A file with two names counts for each.
    pub bytes: u64,
    /// What could not be removed.
    pub left: Vec<RelativePath>,
}

impl Catalog {
    /// Removes files below the cache root that no entry names, that nobody works on, and that have not changed for
    /// `unchanged_for`.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub fn sweep(&self, unchanged_for: Duration, now_unix_ms: u64) -> Result<Swept, CatalogError> {
        if !self.root.is_dir() {
            return Ok(Swept::default());
        }
        let turn = self.turn()?;
        let index = self.models.read()?.index.clone();
        let named: BTreeSet<RelativePath> = named_files(&index).cloned().collect();
        let files = index.entries.iter().flat_map(|known| &known.entry.files);
        let needed: BTreeSet<Sha256Digest> = files.map(|file| file.sha256).collect();
        let mut swept = Swept {
            left: self.carry_out(index, now_unix_ms)?,
            ..Swept::default()
        };
        let before_ms =
            now_unix_ms.saturating_sub(u64::try_from(unchanged_for.as_millis()).unwrap_or(u64::MAX));
        let beneath = Beneath::open(&self.root).map_err(CatalogError::at(&self.root))?;
        let mut remove = |path: &Path, size: u64| match beneath.remove(path) {
            Ok(()) => {
                swept.files += 1;
                swept.bytes += size;
            }
            Err(_) => swept.left.extend(relative(path)),
        };
        for (path, found) in self.files_below(layout::MODELS) {
            if relative(&path).is_some_and(|path| !named.contains(&path)) && is_older(&found, before_ms) {
                remove(&path, found.len());
            }
        }
        for folder in [layout::BLOBS, layout::PARTIAL] {
            for (path, found) in self.files_below(folder) {
                let key = content_of(&path).filter(|key| !needed.contains(key));
                if !is_older(&found, before_ms) {
                    continue;
                }
                // Held while the file goes, so that nobody begins with it meanwhile.
                if let Some(_turn) = key.and_then(|key| self.content_turn(&key).ok().flatten()) {
                    remove(&path, found.len());
                }
            }
        }
        drop(turn);
        Ok(swept)
    }

    /// Regular files below a folder of the root, by their paths from the root. Links are not followed.
    fn files_below(&self, folder: &str) -> Vec<(PathBuf, Metadata)> {
        let mut found = Vec::new();
        let mut folders = vec![(PathBuf::from(folder), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in fs::read_dir(self.root.join(&folder))
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = folder.join(entry.file_name());
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() && depth < DEEPEST => folders.push((path, depth + 1)),
                    Ok(metadata) if metadata.is_file() => found.push((path, metadata)),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        found
    }
}

/// The content that a file below `blobs` or `partial` belongs to: the component that is a digest.
fn content_of(path: &Path) -> Option<Sha256Digest> {
    path.components()
        .find_map(|part| Sha256Digest::from_hex(part.as_os_str().to_str()?).ok())
}

fn is_older(found: &Metadata, before_ms: u64) -> bool {
    let modified = found
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    modified.is_some_and(|at| at.as_millis() <= u128::from(before_ms))
}
