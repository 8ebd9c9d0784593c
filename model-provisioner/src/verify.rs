//! Reading a model's files again: whether they still have the digests they were registered with.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use api_types::{ModelEntry, ModelId, ModelRef, RelativePath, Sha256Digest};
use catalog_core::CatalogError;
use downloader::FetchError;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::ProvisionError;
use crate::execute::{Provisioner, blocking};
use crate::meter::{Meter, Reporter};
use crate::sources::local;

/// What was found of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It has its digest.
    Sound,
    /// It is not there.
    Missing,
    /// It has another one, which is here.
    Wrong(Sha256Digest),
}

/// One file and what was found of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedFile {
    /// Its name inside the model.
    pub name: RelativePath,
    /// What was found.
    pub finding: Finding,
}

/// What was found of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The model, as it is in the catalog now.
    pub model: ModelEntry,
    /// Its files.
    pub files: Vec<VerifiedFile>,
    /// Wrong files below the cache root that could not be removed; every later removal and sweep tries again.
    pub left: Vec<RelativePath>,
}

impl Verification {
    /// Whether every file has its digest.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.files.iter().all(|file| file.finding == Finding::Sound)
    }
}

impl Provisioner {
    /// Reads a model's files and compares their digests with the catalog's. A sound model is marked as verified. One with
    /// wrong bytes is retired, and its wrong files below the cache root are removed, so that the next pull fetches them; an
    /// external file stays as it is. One with missing files stays as it is: its disk may come back.
    ///
    /// # Errors
    /// [`CatalogError::Unknown`], a file that cannot be read, or the end of `stop`; nothing is changed then.
    pub async fn verify(
        &self,
        id: &ModelId,
        reporter: Arc<dyn Reporter>,
        stop: &CancellationToken,
    ) -> Result<Verification, ProvisionError> {
        let located = self.catalog().locate(&ModelRef::from(id))?;
        let located = located.ok_or_else(|| CatalogError::Unknown {
            kind: "model",
            id: id.to_string(),
        })?;
        let meter = Arc::new(Meter::new(reporter, Some(located.entry.bytes)));
        let mut files = Vec::new();
        for (file, path) in located.entry.files.iter().zip(located.paths) {
            files.push(VerifiedFile {
                name: file.name.clone(),
                finding: look(path, file.sha256, &meter, stop).await?,
            });
        }
        self.conclude(id, files)
    }

    fn conclude(&self, id: &ModelId, files: Vec<VerifiedFile>) -> Result<Verification, ProvisionError> {
        let wrong: Vec<RelativePath> = files
            .iter()
            .filter(|file| matches!(file.finding, Finding::Wrong(_)))
            .map(|file| file.name.clone())
            .collect();
        let mut verification = Verification {
            model: self.catalog().model(id)?.ok_or_else(|| CatalogError::Unknown {
                kind: "model",
                id: id.to_string(),
            })?,
            files,
            left: Vec::new(),
        };
        if !wrong.is_empty() {
            let rejected = self.catalog().reject_model(id, &wrong, self.now())?;
            (verification.model, verification.left) = (rejected.entry, rejected.left);
        } else if verification.is_sound() {
            verification.model = self.catalog().mark_verified(id, self.now())?;
        }
        Ok(verification)
    }
}

async fn look(
    path: PathBuf,
    expected: Sha256Digest,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<Finding, ProvisionError> {
    let (meter, stop) = (Arc::clone(meter), stop.clone());
    let hashed = blocking(move || local::hash(&path, &stop, |bytes| meter.add(bytes))).await;
    match hashed {
        Ok((found, _)) if found == expected => Ok(Finding::Sound),
        Ok((found, _)) => Ok(Finding::Wrong(found)),
        Err(ProvisionError::Fetch(FetchError::Io { source, .. }))
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Finding::Missing)
        }
        Err(error) => Err(error),
    }
}
