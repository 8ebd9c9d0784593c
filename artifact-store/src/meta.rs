//! What is known of an artifact beside its content, as it lies on the disk.

use api_types::{ArtifactId, ArtifactInfo, ArtifactKind, ArtifactTag};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Of the JSON below. Another one is left alone and not served.
const SCHEMA: u32 = 1;

/// When something is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// By a clock that goes on over restarts and that nobody can set, ms; retention counts in it.
    pub now_ms: u64,
    /// By the wall clock, ms since 1970; for people.
    pub unix_ms: u64,
}

/// Something to store.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// What it is.
    pub kind: ArtifactKind,
    /// What its bytes mean.
    pub media_type: &'a str,
    /// Words to find it by.
    pub tags: Vec<ArtifactTag>,
    /// Its bytes.
    pub content: &'a [u8],
}

/// An artifact without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    schema: u32,
    /// What clients see of it.
    #[serde(flatten)]
    pub info: ArtifactInfo,
    /// Its place in the order of arrival.
    pub seq: u64,
    /// From when on its age counts, ms of [`Stamp::now_ms`].
    pub kept_from_ms: u64,
}

impl Meta {
    pub(crate) fn new(id: ArtifactId, new: &New<'_>, seq: u64, stamp: Stamp) -> Self {
        let mut tags = new.tags.clone();
        tags.sort_unstable();
        tags.dedup();
        Self {
            schema: SCHEMA,
            info: ArtifactInfo {
                id,
                kind: new.kind,
                media_type: new.media_type.to_owned(),
                bytes: new.content.len() as u64,
                tags,
                created_unix_ms: stamp.unix_ms,
            },
            seq,
            kept_from_ms: stamp.now_ms,
        }
    }

    /// `None` for what another version or a damaged disk has written.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        let meta: Self = serde_json::from_slice(json).ok()?;
        (meta.schema == SCHEMA).then_some(meta)
    }
}

pub(crate) fn id_of(content: &[u8]) -> ArtifactId {
    ArtifactId::of_digest(Sha256::digest(content).into())
}
