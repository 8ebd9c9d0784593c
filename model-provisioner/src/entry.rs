//! From files that are here, whole, to the entry of a model. Blocking.

use std::path::{Path, PathBuf};

use api_types::{FilePlace, Lifecycle, ModelEntry, ModelFile, RelativePath, Sha256Digest};
use model_files::{Part, inspect};

use crate::error::ProvisionError;
use crate::identity::model_digest;
use crate::plan::Plan;
use crate::publish;

/// A file that is here, whole.
pub(crate) struct Staged {
    pub(crate) file: RelativePath,
    pub(crate) bytes: u64,
    pub(crate) sha256: Sha256Digest,
    pub(crate) at: PathBuf,
    /// Somebody else's: stays where it is.
    pub(crate) external: bool,
}

/// Publishes what is staged, reads its headers, and makes the entry of it. Blocking.
pub(crate) fn register(
    plan: &Plan,
    root: &Path,
    staged: Vec<Staged>,
    now: u64,
) -> Result<ModelEntry, ProvisionError> {
    let parts: Vec<Part> = staged
        .iter()
        .map(|staged| Part {
            name: staged.file.to_string(),
            path: staged.at.clone(),
        })
        .collect();
    let inspection = inspect(&parts).map_err(|source| ProvisionError::Model {
        name: plan.id.to_string(),
        source,
    })?;
    let digest = model_digest(&staged);
    let mut files = Vec::new();
    for staged in staged {
        let place = if staged.external {
            let path = staged.at.to_str();
            let path =
                path.ok_or_else(|| ProvisionError::malformed(plan.id.as_str(), "a path that is no UTF-8"))?;
            FilePlace::External(path.to_owned())
        } else {
            FilePlace::Cached(publish::publish(
                root,
                &plan.id,
                &digest,
                &staged.file,
                &staged.at,
            )?)
        };
        files.push(ModelFile {
            name: staged.file,
            bytes: staged.bytes,
            sha256: staged.sha256,
            place,
        });
    }
    // What an engine is given comes first.
    files.sort_by_key(|file| file.name.as_str() != inspection.first);
    Ok(ModelEntry {
        id: plan.id.clone(),
        state: Lifecycle::Active,
        source: plan.source.clone(),
        resolved: plan.resolved.clone(),
        digest,
        bytes: files
            .iter()
            .fold(0, |sum: u64, file| sum.saturating_add(file.bytes)),
        files,
        facts: Some(inspection.facts),
        created_unix_ms: now,
        state_unix_ms: now,
        verified_unix_ms: Some(now),
    })
}
