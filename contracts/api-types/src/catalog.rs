//! What the catalog knows of models and engines: entries, the files they consist of, and what has been measured of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Sha256Digest;
use crate::ids::{EngineId, ModelId};
use crate::model_ref::ModelRef;
use crate::task::{EngineKind, closed_set};

/// Longest relative path, bytes.
pub const MAX_PATH_LEN: usize = 1024;
/// Longest component of a path, bytes: what file systems take.
pub const MAX_COMPONENT_LEN: usize = 255;

/// A path that stays below the folder it is joined to: components without separators, `.`, `..`, control characters and
/// backslashes, none empty.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema,
)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 1024)]
#[schemars(with = "String")]
pub struct RelativePath(Box<str>);

/// Why a text is not such a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty, or longer than [`MAX_PATH_LEN`].
    #[error("a path has 1 to {MAX_PATH_LEN} bytes, this one has {len}")]
    Length {
        /// Its length, bytes.
        len: usize,
    },
    /// A component that leads elsewhere or that no file can have.
    #[error(
        "a path component must not be empty, '.' or '..', nor longer than {MAX_COMPONENT_LEN} bytes: {component:?}"
    )]
    Component {
        /// Which.
        component: Box<str>,
    },
    /// A control character or a backslash.
    #[error("a path must not contain {found:?}")]
    Character {
        /// Which.
        found: char,
    },
}

impl RelativePath {
    /// Checks the text.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn new(text: &str) -> Result<Self, PathError> {
        if !(1..=MAX_PATH_LEN).contains(&text.len()) {
            return Err(PathError::Length { len: text.len() });
        }
        if let Some(found) = text.chars().find(|c| c.is_control() || *c == '\\') {
            return Err(PathError::Character { found });
        }
        let bad = |part: &&str| matches!(*part, "" | "." | "..") || part.len() > MAX_COMPONENT_LEN;
        match text.split('/').find(bad) {
            Some(component) => Err(PathError::Component {
                component: component.into(),
            }),
            None => Ok(Self(text.into())),
        }
    }

    /// The path as text, `/` between components.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// Its last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RelativePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl TryFrom<Cow<'_, str>> for RelativePath {
    type Error = PathError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, PathError> {
        Self::new(&text)
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0.into()
    }
}

closed_set!(
    /// Whether something of the catalog may be used for new work.
    #[derive(Default)]
    Lifecycle {
        /// It may.
        #[default]
        Active = "Active",
        /// It may not; its history stays.
        Retired = "Retired",
    }
);

closed_set!(
    /// What a model's files are.
    ModelFormat {
        /// One GGUF file, or its parts.
        Gguf = "gguf",
        /// A folder with safetensors files and their configuration.
        Safetensors = "safetensors",
    }
);

closed_set!(
    /// How an engine came to be on the node.
    EngineMode {
        /// Built here.
        Source = "source",
        /// An image, by digest.
        Container = "container",
        /// The system's package manager.
        Package = "package",
        /// A program that was fetched, by digest.
        Binary = "binary",
        /// Somebody else runs it.
        External = "external",
    }
);

closed_set!(
    /// How an engine keeps keys and values of a context.
    #[derive(Default)]
    KvCacheType {
        /// 32-bit floats.
        F32 = "f32",
        /// 16-bit floats.
        #[default]
        F16 = "f16",
        /// 16-bit brain floats.
        Bf16 = "bf16",
        /// 8-bit floats (vLLM's `fp8`).
        Fp8 = "fp8",
        /// 8 bits in blocks.
        Q80 = "q8_0",
        /// 5 bits in blocks, with a minimum.
        Q51 = "q5_1",
        /// 5 bits in blocks.
        Q50 = "q5_0",
        /// 4 bits in blocks, with a minimum.
        Q41 = "q4_1",
        /// 4 bits in blocks.
        Q40 = "q4_0",
        /// 4 bits in blocks, not linear.
        Iq4Nl = "iq4_nl",
    }
);

/// Where a file of a model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilePlace {
    /// Below the cache root, which the catalog owns: removed with the entry.
    Cached(RelativePath),
    /// An absolute path of somebody else's file: named, never written or removed.
    External(String),
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelFile {
    /// Its name inside the model.
    pub name: RelativePath,
    /// Its size, bytes.
    pub bytes: u64,
    /// Digest of its content.
    pub sha256: Sha256Digest,
    /// Where it is.
    pub place: FilePlace,
}

/// What the header of a model's files says, where it says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelFacts {
    /// What the files are.
    pub format: ModelFormat,
    /// The family, as engines call it (`llama`, `qwen2`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The name its makers gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The type most of its weights have (`Q4_K_M`, `BF16`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of the tensors that are on the GPUs when every layer is.
    pub offloaded_bytes: u64,
    /// Longest context it was trained with, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<u32>,
    /// Width of a hidden state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
    /// Width inside the feed-forward part; the widest layer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_forward_length: Option<u64>,
    /// Attention heads; those of the layer that has most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<u32>,
    /// Heads of keys and values: one number for all layers, or one for each; 0 for a layer that caches none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kv_heads: Vec<u32>,
    /// Length of one head's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_length: Option<u64>,
    /// Length of one head's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_length: Option<u64>,
    /// Rank of a compressed cache (one vector per token and layer instead of keys and values), rotary part included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_length: Option<u64>,
    /// Tokens that a layer with a sliding window looks back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<u64>,
    /// How many layers have that window, where the header says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_layers: Option<u32>,
    /// Bytes of state per sequence in layers that keep one instead of a cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recurrent_bytes: u64,
    /// Tokens it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<u64>,
    /// Experts per layer, where it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<u32>,
    /// Whether it brings the template of its conversations.
    pub chat_template: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A model of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelEntry {
    /// Its name here.
    pub id: ModelId,
    /// Whether new work may use it.
    pub state: Lifecycle,
    /// What was asked for, without what may be a credential.
    pub source: ModelRef,
    /// What that was at the time: with the commit or digest that it was resolved to.
    pub resolved: String,
    /// Digest of the one file; of several, of the list of their digests and names.
    pub digest: Sha256Digest,
    /// Bytes of all files.
    pub bytes: u64,
    /// Its files, by name. The first part of a model in parts, or its only file, comes first.
    pub files: Vec<ModelFile>,
    /// What their headers say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ModelFacts>,
    /// When it was registered, by the wall clock, ms since 1970.
    pub created_unix_ms: u64,
    /// Since when it has this state, ms since 1970.
    pub state_unix_ms: u64,
    /// When its bytes were last found to have their digests, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_unix_ms: Option<u64>,
}

/// An engine of the catalog: what was prepared, from what, and how it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineEntry {
    /// Its name here.
    pub id: EngineId,
    /// Whether new work may use it.
    pub state: Lifecycle,
    /// Which engine.
    pub engine: EngineKind,
    /// Its version, as it tells it.
    pub version: String,
    /// How it came here.
    pub mode: EngineMode,
    /// The pinned revision, release or tag it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_ref: Option<String>,
    /// Digest of the program or image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Sha256Digest>,
    /// Flags it was built with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Compute capabilities it was built for (`8.9`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compute_capabilities: Vec<String>,
    /// Absolute path of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Its image, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Arguments that every start gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment that every start gets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Where it came from.
    pub source: String,
    /// The engine that this one replaced, for going back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<EngineId>,
    /// When it was registered, by the wall clock, ms since 1970.
    pub created_unix_ms: u64,
    /// Since when it has this state, ms since 1970.
    pub state_unix_ms: u64,
}

/// What a use of memory was measured of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct UsageKey {
    /// The engine.
    pub engine: EngineKind,
    /// Its version.
    pub engine_version: String,
    /// The model's digest.
    pub model: Sha256Digest,
    /// Context of one slot, tokens.
    pub ctx: u64,
    /// Slots.
    pub slots: u32,
    /// Type of the cached keys.
    pub cache_k: KvCacheType,
    /// Type of the cached values.
    pub cache_v: KvCacheType,
}

/// Memory that the driver has shown an engine to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredUsage {
    /// Of what.
    #[serde(flatten)]
    pub key: UsageKey,
    /// The most that was seen, over all its devices, bytes.
    pub bytes: u64,
    /// How often it was looked at.
    pub samples: u32,
    /// When last, by the wall clock, ms since 1970.
    pub measured_unix_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below() {
        for good in ["a", "a/b.gguf", "...", ".hidden", "a b/ö"] {
            let path: RelativePath = good.parse().unwrap();
            assert!(path.as_path().is_relative());
        }
        for bad in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a\0", "a\n", "./a",
        ] {
            assert!(bad.parse::<RelativePath>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<RelativePath>().is_err());
        assert!(["x"; 600].join("/").parse::<RelativePath>().is_err());
        assert_eq!(
            "a/b/c.gguf".parse::<RelativePath>().unwrap().file_name(),
            "c.gguf"
        );
    }
}
