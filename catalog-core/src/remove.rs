//! Removing entries with their files. The entry goes first, and in the same write the files are noted as doomed; so
//! whatever happens then, no entry names a file that is gone, and no file is forgotten.

use std::collections::BTreeSet;
use std::path::Path;

use api_types::{
    EngineEntry, EngineId, FilePlace, Lifecycle, ModelEntry, ModelId, RelativePath, Sha256Digest,
};
use owned_folder::Turn;

use crate::beneath::Beneath;
use crate::catalog::{Catalog, named_files, unknown};
use crate::error::CatalogError;
use crate::index::Index;
use crate::layout;

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The entry: as it was, or as it is now where it stays.
    pub entry: ModelEntry,
    /// Files that could not be removed, below the cache root. They are tried again by every later removal and sweep.
    pub left: Vec<RelativePath>,
}

impl Catalog {
    /// Removes a model and those of its files below the cache root that no other entry needs. External files are never
    /// touched.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], and those of the index: the entry and its files are there as before then.
    pub fn remove_model(&self, id: &ModelId, now_unix_ms: u64) -> Result<Removed, CatalogError> {
        let turn = self.turn()?;
        let mut index = self.models.read()?.index.clone();
        let at = index.entries.iter().position(|known| known.entry.id == *id);
        let at = at.ok_or_else(|| unknown("model", id.as_str()))?;
        let entry = index.entries.remove(at).entry;
        let fetched = self.doom(&mut index, &entry);
        self.models.write(index.clone(), now_unix_ms)?;
        let left = self.carry_out(index, now_unix_ms)?;
        drop((fetched, turn));
        Ok(Removed { entry, left })
    }

    /// Retires a model of which files were found to have other bytes than their digests say. Those of them that are below
    /// the cache root are removed, by name and by content, so that they are fetched anew and not found again; external
    /// files are never touched.
    ///
    /// # Errors
    /// As for [`remove_model`](Self::remove_model).
    pub fn reject_model(
        &self,
        id: &ModelId,
        wrong: &[RelativePath],
        now_unix_ms: u64,
    ) -> Result<Removed, CatalogError> {
        let turn = self.turn()?;
        let mut index = self.models.read()?.index.clone();
        let known = index
            .find_mut(|known| known.id == *id)
            .ok_or_else(|| unknown("model", id.as_str()))?;
        if known.state != Lifecycle::Retired {
            (known.state, known.state_unix_ms) = (Lifecycle::Retired, now_unix_ms);
        }
        let entry = known.clone();
        let mut turns = Vec::new();
        for file in entry.files.iter().filter(|file| wrong.contains(&file.name)) {
            let FilePlace::Cached(path) = &file.place else {
                continue;
            };
            index.doomed.push(path.clone());
            if let Some(turn) = self.content_turn(&file.sha256).ok().flatten() {
                turns.push(turn);
                index.doomed.extend(relative(&layout::blob(&file.sha256)));
            }
        }
        index.doomed.sort_unstable();
        index.doomed.dedup();
        self.models.write(index.clone(), now_unix_ms)?;
        let left = self.carry_out(index, now_unix_ms)?;
        drop((turns, turn));
        Ok(Removed { entry, left })
    }

    /// Removes an engine's entry. Its files belong to whoever prepared it.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], and those of the index.
    pub fn remove_engine(&self, id: &EngineId, now_unix_ms: u64) -> Result<EngineEntry, CatalogError> {
        let turn = self.turn()?;
        let mut index = self.engines.read()?.index.clone();
        let at = index.entries.iter().position(|known| known.entry.id == *id);
        let at = at.ok_or_else(|| unknown("engine", id.as_str()))?;
        let entry = index.entries.remove(at).entry;
        self.engines.write(index, now_unix_ms)?;
        drop(turn);
        Ok(entry)
    }

    /// Notes what the entry leaves behind. Content that somebody is fetching or publishing right now is left to them; the
    /// turns that come back keep it from beginning until the files are gone.
    fn doom(&self, index: &mut Index<ModelEntry>, entry: &ModelEntry) -> Vec<Turn> {
        let named: BTreeSet<RelativePath> = named_files(index).cloned().collect();
        let others = index.entries.iter().flat_map(|known| &known.entry.files);
        let needed: BTreeSet<Sha256Digest> = others.map(|file| file.sha256).collect();
        let mut turns = Vec::new();
        for file in &entry.files {
            let FilePlace::Cached(path) = &file.place else {
                continue;
            };
            if !named.contains(path) {
                index.doomed.push(path.clone());
            }
            if let Some(turn) = self.unneeded(&file.sha256, &needed) {
                turns.push(turn);
                index.doomed.extend(relative(&layout::blob(&file.sha256)));
            }
        }
        index.doomed.sort_unstable();
        index.doomed.dedup();
        turns
    }

    fn unneeded(&self, digest: &Sha256Digest, needed: &BTreeSet<Sha256Digest>) -> Option<Turn> {
        if needed.contains(digest) {
            return None;
        }
        self.content_turn(digest).ok().flatten()
    }

    /// The turn to fetch or publish a content, unless somebody has it.
    ///
    /// # Errors
    /// The file of the lock cannot be made.
    pub fn content_turn(&self, key: &Sha256Digest) -> Result<Option<Turn>, CatalogError> {
        let path = self.root.join(layout::turn(key));
        let folder = self.root.join(layout::TURNS);
        owned_folder::private_dir(&folder).map_err(CatalogError::at(&folder))?;
        Turn::take(&path).map_err(CatalogError::at(&path))
    }

    /// Removes what is doomed and notes what could not be removed. The caller has the turn.
    pub(crate) fn carry_out(
        &self,
        mut index: Index<ModelEntry>,
        now_unix_ms: u64,
    ) -> Result<Vec<RelativePath>, CatalogError> {
        if index.doomed.is_empty() {
            return Ok(Vec::new());
        }
        let beneath = Beneath::open(&self.root).map_err(CatalogError::at(&self.root))?;
        index
            .doomed
            .retain(|path| beneath.remove(path.as_path()).is_err());
        let left = index.doomed.clone();
        // The entry is gone already; when only this write fails, the next sweep finds files that are gone, which is fine.
        match self.models.write(index, now_unix_ms) {
            Ok(()) | Err(CatalogError::DiskFull { .. } | CatalogError::Io { .. }) => Ok(left),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn relative(path: &Path) -> Option<RelativePath> {
    RelativePath::new(path.to_str()?).ok()
}
