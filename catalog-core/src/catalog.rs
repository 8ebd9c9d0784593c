//! The handle: looking, registering, states.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api_types::model_ref::ModelRefKind;
use api_types::{
    EngineEntry, EngineId, FilePlace, Lifecycle, MeasuredUsage, ModelEntry, ModelId, ModelRef, RelativePath,
};
use owned_folder::Turn;

use crate::error::CatalogError;
use crate::index::{Index, IndexFile};
use crate::page::{Filter, Page};

const TURN: &str = "turn";

/// Models and engines of this machine. Any number of processes may have it open; changes are made in turn.
#[derive(Debug)]
pub struct Catalog {
    pub(crate) root: PathBuf,
    pub(crate) models: IndexFile<ModelEntry>,
    pub(crate) engines: IndexFile<EngineEntry>,
    pub(crate) usage: IndexFile<MeasuredUsage>,
}

/// What became of an entry to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered<T> {
    /// It is new.
    New(T),
    /// The same thing was there; this is how it is known now.
    Known(T),
}

impl<T> Registered<T> {
    /// The entry as it is in the catalog.
    #[must_use]
    pub fn into_entry(self) -> T {
        match self {
            Self::New(entry) | Self::Known(entry) => entry,
        }
    }
}

/// A model and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its entry.
    pub entry: ModelEntry,
    /// Its files, absolute, in the order of the entry.
    pub paths: Vec<PathBuf>,
    /// Files that are not there, or not with their size, by name.
    pub missing: Vec<RelativePath>,
}

impl Located {
    /// What an engine is given: the file, or the first of its parts.
    #[must_use]
    pub fn first(&self) -> Option<&Path> {
        self.paths.first().map(PathBuf::as_path)
    }
}

impl Catalog {
    /// The catalog below this folder. Writes nothing, and need not be there yet.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            models: IndexFile::new(root.join("models.json")),
            engines: IndexFile::new(root.join("engines.json")),
            usage: IndexFile::new(root.join("usage.json")),
        }
    }

    /// The cache root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a reference is in the catalog, in any state. Writes nothing.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn exists(&self, reference: &ModelRef) -> Result<bool, CatalogError> {
        Ok(self.find(reference)?.is_some())
    }

    /// The model that a reference names and where its files are. Writes nothing.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn locate(&self, reference: &ModelRef) -> Result<Option<Located>, CatalogError> {
        Ok(self.find(reference)?.map(|entry| self.located(entry)))
    }

    /// A model by its id.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn model(&self, id: &ModelId) -> Result<Option<ModelEntry>, CatalogError> {
        let snapshot = self.models.read()?;
        Ok(snapshot.index.find(|entry| entry.id == *id).cloned())
    }

    /// An engine by its id.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn engine(&self, id: &EngineId) -> Result<Option<EngineEntry>, CatalogError> {
        let snapshot = self.engines.read()?;
        Ok(snapshot.index.find(|entry| entry.id == *id).cloned())
    }

    /// Models, newest first, at most `limit`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn models(&self, filter: Filter, limit: usize) -> Result<Page<ModelEntry>, CatalogError> {
        let snapshot = self.models.read()?;
        let all = &snapshot.index.entries;
        Ok(Page::of(all, filter, limit, snapshot.version.clone(), |entry| {
            entry.state
        }))
    }

    /// Engines, newest first, at most `limit`.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn engines(&self, filter: Filter, limit: usize) -> Result<Page<EngineEntry>, CatalogError> {
        let snapshot = self.engines.read()?;
        let all = &snapshot.index.entries;
        Ok(Page::of(all, filter, limit, snapshot.version.clone(), |entry| {
            entry.state
        }))
    }

    /// Registers a model as `Active`. The same files under the same id are the same model, which becomes active again.
    ///
    /// # Errors
    /// [`CatalogError::Taken`] for an id that names other files, [`CatalogError::Entry`] for an entry that is not whole,
    /// and those of the disk; nothing is registered then.
    pub fn register_model(
        &self,
        mut entry: ModelEntry,
        now_unix_ms: u64,
    ) -> Result<Registered<ModelEntry>, CatalogError> {
        self.check_model(&entry)?;
        entry.state = Lifecycle::Active;
        entry.source = entry.source.without_query();
        let turn = self.turn()?;
        let mut index = self.models.read()?.index.clone();
        let id = entry.id.clone();
        let registered = match index.find_mut(|known| known.id == id) {
            Some(known) if known.digest != entry.digest => {
                return Err(taken("model", id.as_str(), &known.digest));
            }
            Some(known) => {
                entry.created_unix_ms = known.created_unix_ms;
                if known.state == Lifecycle::Active {
                    entry.state_unix_ms = known.state_unix_ms;
                }
                known.clone_from(&entry);
                Registered::Known(entry)
            }
            None => {
                index.push(entry.clone());
                Registered::New(entry)
            }
        };
        let named: BTreeSet<RelativePath> = named_files(&index).cloned().collect();
        index.doomed.retain(|path| !named.contains(path));
        self.models.write(index, now_unix_ms)?;
        drop(turn);
        Ok(registered)
    }

    /// Registers an engine as `Active`. The same digest and version under the same id are the same engine.
    ///
    /// # Errors
    /// As for [`register_model`](Self::register_model).
    pub fn register_engine(
        &self,
        mut entry: EngineEntry,
        now_unix_ms: u64,
    ) -> Result<Registered<EngineEntry>, CatalogError> {
        if entry.binary.is_none() && entry.image.is_none() && entry.mode != api_types::EngineMode::External {
            let rule = "an engine that is not external has a binary or an image";
            return Err(CatalogError::entry("binary", rule));
        }
        entry.state = Lifecycle::Active;
        let turn = self.turn()?;
        let mut index = self.engines.read()?.index.clone();
        let id = entry.id.clone();
        let identity = |of: &EngineEntry| (of.engine, of.version.clone(), of.digest, of.image.clone());
        let registered = match index.find_mut(|known| known.id == id) {
            Some(known) if identity(known) != identity(&entry) => {
                let digest = known
                    .digest
                    .map_or_else(|| known.version.clone(), |digest| digest.to_string());
                return Err(taken("engine", id.as_str(), &digest));
            }
            Some(known) => {
                entry.created_unix_ms = known.created_unix_ms;
                known.clone_from(&entry);
                Registered::Known(entry)
            }
            None => {
                index.push(entry.clone());
                Registered::New(entry)
            }
        };
        self.engines.write(index, now_unix_ms)?;
        drop(turn);
        Ok(registered)
    }

    /// Retires a model, or makes it active again.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], and those of the disk.
    pub fn set_model_state(
        &self,
        id: &ModelId,
        state: Lifecycle,
        now_unix_ms: u64,
    ) -> Result<ModelEntry, CatalogError> {
        self.change_model(id, now_unix_ms, |entry| {
            if entry.state != state {
                (entry.state, entry.state_unix_ms) = (state, now_unix_ms);
            }
        })
    }

    /// Retires an engine, or makes it active again.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], and those of the disk.
    pub fn set_engine_state(
        &self,
        id: &EngineId,
        state: Lifecycle,
        now_unix_ms: u64,
    ) -> Result<EngineEntry, CatalogError> {
        let turn = self.turn()?;
        let mut index = self.engines.read()?.index.clone();
        let entry = index
            .find_mut(|known| known.id == *id)
            .ok_or_else(|| unknown("engine", id.as_str()))?;
        if entry.state != state {
            (entry.state, entry.state_unix_ms) = (state, now_unix_ms);
        }
        let entry = entry.clone();
        self.engines.write(index, now_unix_ms)?;
        drop(turn);
        Ok(entry)
    }

    /// Notes that a model's bytes have been found to have their digests.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], and those of the disk.
    pub fn mark_verified(&self, id: &ModelId, now_unix_ms: u64) -> Result<ModelEntry, CatalogError> {
        self.change_model(id, now_unix_ms, |entry| {
            entry.verified_unix_ms = Some(now_unix_ms);
        })
    }

    fn change_model(
        &self,
        id: &ModelId,
        now_unix_ms: u64,
        change: impl FnOnce(&mut ModelEntry),
    ) -> Result<ModelEntry, CatalogError> {
        let turn = self.turn()?;
        let mut index = self.models.read()?.index.clone();
        let entry = index
            .find_mut(|known| known.id == *id)
            .ok_or_else(|| unknown("model", id.as_str()))?;
        change(entry);
        let entry = entry.clone();
        self.models.write(index, now_unix_ms)?;
        drop(turn);
        Ok(entry)
    }

    fn find(&self, reference: &ModelRef) -> Result<Option<ModelEntry>, CatalogError> {
        let snapshot = self.models.read()?;
        let asked = reference.without_query();
        let found = match reference.kind() {
            ModelRefKind::Catalog => snapshot.index.find(|entry| entry.id.as_str() == asked.as_str()),
            ModelRefKind::Hub
            | ModelRefKind::File
            | ModelRefKind::Relative
            | ModelRefKind::Https
            | ModelRefKind::S3
            | ModelRefKind::Oci => snapshot.index.find(|entry| entry.source == asked),
        };
        Ok(found.cloned())
    }

    fn located(&self, entry: ModelEntry) -> Located {
        let path = |place: &FilePlace| match place {
            FilePlace::Cached(path) => self.root.join(path.as_path()),
            FilePlace::External(path) => path.into(),
        };
        let paths: Vec<PathBuf> = entry.files.iter().map(|file| path(&file.place)).collect();
        let whole = |path: &Path, bytes| {
            path.metadata()
                .is_ok_and(|found| found.is_file() && found.len() == bytes)
        };
        let missing = entry.files.iter().zip(&paths);
        let missing = missing.filter(|(file, path)| !whole(path, file.bytes));
        Located {
            missing: missing.map(|(file, _)| file.name.clone()).collect(),
            paths,
            entry,
        }
    }

    fn check_model(&self, entry: &ModelEntry) -> Result<(), CatalogError> {
        let refuse = |field, rule: String| Err(CatalogError::Entry { field, rule });
        let sum: Option<u64> = entry
            .files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.bytes));
        if entry.files.is_empty() || sum != Some(entry.bytes) {
            return refuse(
                "files",
                "a model has files, and their sizes sum up to its bytes".to_owned(),
            );
        }
        for file in &entry.files {
            let sound = match &file.place {
                FilePlace::External(path) => Path::new(path).is_absolute(),
                FilePlace::Cached(path) => path.as_path().starts_with(crate::layout::MODELS),
            };
            if !sound {
                let rule = format!("{} lies neither below models/ nor at an absolute path", file.name);
                return refuse("files", rule);
            }
        }
        let located = self.located(entry.clone());
        match located.missing.first() {
            Some(name) => refuse("files", format!("{name} is not there with its size")),
            None => Ok(()),
        }
    }

    /// Waits for the turn to change something. The folder is made by the first change.
    pub(crate) fn turn(&self) -> Result<Turn, CatalogError> {
        owned_folder::private_dir(&self.root).map_err(CatalogError::at(&self.root))?;
        let path = self.root.join(TURN);
        Turn::wait(&path).map_err(CatalogError::at(&path))
    }
}

/// What the entries name below the root.
pub(crate) fn named_files(index: &Index<ModelEntry>) -> impl Iterator<Item = &RelativePath> {
    let files = index.entries.iter().flat_map(|numbered| &numbered.entry.files);
    files.filter_map(|file| match &file.place {
        FilePlace::Cached(path) => Some(path),
        FilePlace::External(_) => None,
    })
}

pub(crate) fn unknown(kind: &'static str, id: &str) -> CatalogError {
    CatalogError::Unknown {
        kind,
        id: id.to_owned(),
    }
}

fn taken(kind: &'static str, id: &str, known: &impl ToString) -> CatalogError {
    CatalogError::Taken {
        kind,
        id: id.to_owned(),
        known: known.to_string(),
    }
}
