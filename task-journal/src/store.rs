//! The tables in redb: what is in them, and how a batch becomes one durable commit.

use std::path::{Path, PathBuf};

use api_types::TaskId;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};
use uuid::Uuid;

use crate::journal::Op;
use crate::record::TaskRecord;

/// Written once per task.
const ADMISSIONS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("admissions");
/// Overwritten at every edge.
const LIVES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("lives");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";
/// Of the rows above. A journal of another schema is refused, never guessed at.
const SCHEMA: u64 = 1;
/// Enough for the working set of a full queue; the rest is the page cache's.
const CACHE_BYTES: usize = 16 << 20;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is damaged.
    #[error(
        "the task journal {} is damaged ({detail}); nothing was changed. Move the file away to start without the tasks in it, or restore it from a copy",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another version wrote it.
    #[error("the task journal {} has schema {found}; this version reads schema {SCHEMA}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The file cannot be used.
    #[error("the task journal {} cannot be opened", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
}

/// A batch was not made durable. Nothing may be acknowledged after it.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The storage failed. It is never tried again: a second attempt may succeed without the data.
    #[error("the task journal cannot be written")]
    Storage(#[source] Box<redb::Error>),
    /// A record cannot be JSON, which no record of ours is.
    #[error("a journal record cannot be encoded")]
    Encode(#[from] serde_json::Error),
}

/// The open tables.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens or makes the journal file; verifies every page of an existing one.
    ///
    /// # Errors
    /// [`OpenError`]; the tasks in the file are untouched.
    pub fn open(path: &Path) -> Result<(Self, Vec<TaskRecord>), OpenError> {
        let database = builder().create(path).map_err(|error| refused(path, error))?;
        Self::load(database, path)
    }

    /// The same over another storage; `name` is for messages.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(
        backend: impl StorageBackend,
        name: &Path,
    ) -> Result<(Self, Vec<TaskRecord>), OpenError> {
        let database = builder()
            .create_with_backend(backend)
            .map_err(|error| refused(name, error))?;
        Self::load(database, name)
    }

    fn load(database: Database, path: &Path) -> Result<(Self, Vec<TaskRecord>), OpenError> {
        let store = Self { database };
        let failed = |error: redb::Error| unreadable(path, error);
        if let Some(found) = store.schema().map_err(failed)?.filter(|&found| found != SCHEMA) {
            let path = path.to_owned();
            return Err(OpenError::Schema { path, found });
        }
        store.prepare().map_err(failed)?;
        let tasks = store.tasks(path)?;
        Ok((store, tasks))
    }

    fn schema(&self) -> Result<Option<u64>, redb::Error> {
        let read = self.database.begin_read()?;
        match read.open_table(META) {
            Ok(meta) => Ok(meta.get(SCHEMA_KEY)?.map(|schema| schema.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn prepare(&self) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(META)?.insert(SCHEMA_KEY, SCHEMA)?;
        write.open_table(ADMISSIONS)?;
        write.open_table(LIVES)?;
        write.commit()?;
        Ok(())
    }

    fn tasks(&self, path: &Path) -> Result<Vec<TaskRecord>, OpenError> {
        let failed = |error: redb::Error| unreadable(path, error);
        let damaged = |key: u128, detail: String| OpenError::Damaged {
            path: path.to_owned(),
            detail: format!("task {}: {detail}", Uuid::from_u128(key)),
        };
        let read = self.database.begin_read().map_err(|e| failed(e.into()))?;
        let admissions = read.open_table(ADMISSIONS).map_err(|e| failed(e.into()))?;
        let lives = read.open_table(LIVES).map_err(|e| failed(e.into()))?;
        let mut tasks = Vec::new();
        for row in admissions.iter().map_err(|e| failed(e.into()))? {
            let (key, admission) = row.map_err(|e| failed(e.into()))?;
            let key = key.value();
            let life = lives.get(key).map_err(|e| failed(e.into()))?;
            let life = life.ok_or_else(|| damaged(key, "it has no state".to_owned()))?;
            tasks.push(TaskRecord {
                id: TaskId::new(Uuid::from_u128(key)),
                admission: serde_json::from_slice(admission.value())
                    .map_err(|error| damaged(key, error.to_string()))?,
                life: serde_json::from_slice(life.value())
                    .map_err(|error| damaged(key, error.to_string()))?,
            });
        }
        Ok(tasks)
    }

    /// Makes a batch durable in one commit, in its order.
    ///
    /// # Errors
    /// [`WriteError`]; none of the batch may be acknowledged, and the store takes no more.
    pub fn write<'a>(&self, batch: impl IntoIterator<Item = &'a Op>) -> Result<(), WriteError> {
        let mut write = self.database.begin_write().map_err(storage)?;
        write.set_durability(Durability::Immediate).map_err(storage)?;
        {
            let mut admissions = write.open_table(ADMISSIONS).map_err(storage)?;
            let mut lives = write.open_table(LIVES).map_err(storage)?;
            for op in batch {
                match op {
                    Op::Admit(id, admission, life) => {
                        let admission = serde_json::to_vec(admission)?;
                        let life = serde_json::to_vec(life)?;
                        admissions.insert(key(id), &*admission).map_err(storage)?;
                        lives.insert(key(id), &*life).map_err(storage)?;
                    }
                    Op::Edge(id, life) => {
                        // An edge of a task that was forgotten in between leaves nothing behind.
                        if admissions.get(key(id)).map_err(storage)?.is_some() {
                            let life = serde_json::to_vec(life)?;
                            lives.insert(key(id), &*life).map_err(storage)?;
                        }
                    }
                    Op::Forget(id) => {
                        admissions.remove(key(id)).map_err(storage)?;
                        lives.remove(key(id)).map_err(storage)?;
                    }
                    Op::Barrier => {}
                }
            }
        }
        write.commit().map_err(storage)
    }
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    builder
}

const fn key(id: &TaskId) -> u128 {
    id.as_uuid().as_u128()
}

fn storage(error: impl Into<redb::Error>) -> WriteError {
    WriteError::Storage(Box::new(error.into()))
}

fn refused(path: &Path, error: DatabaseError) -> OpenError {
    unreadable(path, error.into())
}

fn unreadable(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::Error::Corrupted(detail) => OpenError::Damaged { path, detail },
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => OpenError::Damaged {
            path,
            detail: source.to_string(),
        },
        other => OpenError::Io {
            path,
            source: Box::new(other),
        },
    }
}
