//! What names a content, a pull, a model. Pure.

use api_types::Sha256Digest;
use sha2::{Digest as _, Sha256};

use crate::entry::Staged;
use crate::plan::{Place, PlannedFile};
use crate::sources::web;

/// Nothing tells one version of it from the next.
pub(crate) const fn is_loose(file: &PlannedFile) -> bool {
    file.sha256.is_none() && file.etag.is_none() && matches!(file.place, Place::Web(_) | Place::S3 { .. })
}

/// Of one file its own; of several that of the list of their digests and names.
pub(crate) fn model_digest(files: &[Staged]) -> Sha256Digest {
    if let [file] = files {
        return file.sha256;
    }
    let mut lines: Vec<String> = files
        .iter()
        .map(|file| format!("{}  {}\n", file.sha256.hex(), file.file))
        .collect();
    lines.sort_unstable();
    Sha256Digest::new(Sha256::digest(lines.concat()).into())
}

/// What names a content whose digest is not known: where it is, and by which validator.
pub(crate) fn identity(file: &PlannedFile) -> Sha256Digest {
    let place = match &file.place {
        Place::Hub(url) | Place::Web(url) => web::shown(url),
        Place::S3 { bucket, key } => format!("s3://{bucket}/{key}"),
        Place::Blob { registry, repository } => format!("oci://{registry}/{repository}"),
        Place::Local(path) => path.display().to_string(),
    };
    let size = file.bytes.map(|bytes| bytes.to_string()).unwrap_or_default();
    key_of(&["content", &place, file.etag.as_deref().unwrap_or_default(), &size])
}

pub(crate) fn key_of(words: &[&str]) -> Sha256Digest {
    let mut hasher = Sha256::new();
    for word in words {
        // With its length, so that no two lists of words are the same text.
        hasher.update((word.len() as u64).to_le_bytes());
        hasher.update(word);
    }
    Sha256Digest::new(hasher.finalize().into())
}
