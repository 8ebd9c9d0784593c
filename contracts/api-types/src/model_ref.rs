//! `model_ref`: how a request or a pool names a model. Parsing only; nothing is looked up here.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::ids::ModelId;

/// Longest reference, in bytes.
pub const MAX_MODEL_REF_LEN: usize = 1024;

/// A parsed model reference that prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schemars(with = "String")]
pub struct ModelRef {
    text: Box<str>,
    kind: ModelRefKind,
}

/// What a reference points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModelRefKind {
    /// `hf:org/repo[/file]`: a repository of a model hub.
    Hub,
    /// `file:/abs/path`: a file on the node.
    File,
    /// `dir/model.gguf`: a path below the node's model root.
    Relative,
    /// `https://…`.
    Https,
    /// `s3://bucket/key`.
    S3,
    /// `oci://registry/repository[:tag|@digest]`.
    Oci,
    /// A catalog id or a model's served name.
    Catalog,
}

/// Why a text is not a model reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelRefError {
    /// Empty text.
    #[error("model_ref is empty")]
    Empty,
    /// Longer than [`MAX_MODEL_REF_LEN`].
    #[error("model_ref has {len} bytes, at most {MAX_MODEL_REF_LEN} are allowed")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// White space, a control character or a backslash.
    #[error("model_ref has {found:?} at byte {at}, which no reference may contain")]
    Character {
        /// The offending character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
    /// `..` or an empty path component.
    #[error("model_ref has the path component {component:?}; '..', '.' and empty components are refused")]
    Component {
        /// The offending component.
        component: Box<str>,
    },
    /// A scheme nobody knows.
    #[error("model_ref has the unknown scheme {scheme:?}; known are hf:, file:, https://, s3://, oci://")]
    Scheme {
        /// The text before the colon.
        scheme: Box<str>,
    },
    /// The scheme is known but what follows is not of its form.
    #[error("model_ref is not of the form {expected}")]
    Form {
        /// The form that was expected.
        expected: &'static str,
    },
}

impl ModelRef {
    /// What the reference points at.
    #[must_use]
    pub const fn kind(&self) -> ModelRefKind {
        self.kind
    }

    /// The reference as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The absolute path of a `file:` reference.
    #[must_use]
    pub fn file_path(&self) -> Option<&str> {
        self.text
            .strip_prefix("file:")
            .filter(|_| self.kind == ModelRefKind::File)
    }

    /// The name under which clients find the model unless another one is configured: the last part of the reference
    /// without `.gguf`, where that is an id.
    #[must_use]
    pub fn served_name(&self) -> Option<ModelId> {
        let last = self.text.rsplit(['/', ':']).next()?;
        ModelId::new(last.strip_suffix(".gguf").unwrap_or(last)).ok()
    }

    /// Whether this, as a request writes it, means the model of that name and reference.
    #[must_use]
    pub fn means(&self, model_id: &ModelId, model_ref: &Self) -> bool {
        // A served name is a reference of its own kind: one word, compared as text.
        model_id.as_str() == self.as_str() || model_ref == self
    }

    /// The catalog id, where the reference is one.
    #[must_use]
    pub fn catalog_id(&self) -> Option<ModelId> {
        (self.kind == ModelRefKind::Catalog)
            .then(|| ModelId::new(&self.text).ok())
            .flatten()
    }
}

impl From<&ModelId> for ModelRef {
    fn from(id: &ModelId) -> Self {
        Self {
            text: id.as_str().into(),
            kind: ModelRefKind::Catalog,
        }
    }
}

impl FromStr for ModelRef {
    type Err = ModelRefError;
    fn from_str(text: &str) -> Result<Self, ModelRefError> {
        check_characters(text)?;
        let kind = classify(text)?;
        Ok(Self {
            text: text.into(),
            kind,
        })
    }
}

fn check_characters(text: &str) -> Result<(), ModelRefError> {
    if text.is_empty() {
        return Err(ModelRefError::Empty);
    }
    if text.len() > MAX_MODEL_REF_LEN {
        return Err(ModelRefError::TooLong { len: text.len() });
    }
    let bad = text
        .char_indices()
        .find(|&(_, c)| c.is_control() || c.is_whitespace() || c == '\\');
    bad.map_or(Ok(()), |(at, found)| Err(ModelRefError::Character { found, at }))
}

fn classify(text: &str) -> Result<ModelRefKind, ModelRefError> {
    if let Some(rest) = text.strip_prefix("https://") {
        return authority(rest, ModelRefKind::Https, "https://host/path");
    }
    if let Some(rest) = text.strip_prefix("s3://") {
        return authority(rest, ModelRefKind::S3, "s3://bucket/key");
    }
    if let Some(rest) = text.strip_prefix("oci://") {
        return authority(rest, ModelRefKind::Oci, "oci://registry/repository[:tag|@digest]");
    }
    if let Some(rest) = text.strip_prefix("hf:") {
        components(rest)?;
        let enough = rest.split('/').count() >= 2;
        return form(enough, ModelRefKind::Hub, "hf:org/repo[/file]");
    }
    if let Some(rest) = text.strip_prefix("file:") {
        let path = rest.strip_prefix('/').ok_or(ModelRefError::Form {
            expected: "file:/absolute/path",
        })?;
        components(path)?;
        return Ok(ModelRefKind::File);
    }
    if let Some((scheme, _)) = text.split_once(':') {
        return Err(ModelRefError::Scheme {
            scheme: scheme.into(),
        });
    }
    if text.contains('/') {
        components(text)?;
        return Ok(ModelRefKind::Relative);
    }
    form(
        ModelId::new(text).is_ok(),
        ModelRefKind::Catalog,
        "a catalog id (letters, digits, '.', '_', '-')",
    )
}

fn form(ok: bool, kind: ModelRefKind, expected: &'static str) -> Result<ModelRefKind, ModelRefError> {
    if ok {
        Ok(kind)
    } else {
        Err(ModelRefError::Form { expected })
    }
}

fn authority(rest: &str, kind: ModelRefKind, expected: &'static str) -> Result<ModelRefKind, ModelRefError> {
    let Some((host, path)) = rest.split_once('/') else {
        return Err(ModelRefError::Form { expected });
    };
    form(
        !host.is_empty() && !host.contains('@') && !path.is_empty(),
        kind,
        expected,
    )?;
    components(path)?;
    Ok(kind)
}

fn components(path: &str) -> Result<(), ModelRefError> {
    let bad = path.split('/').find(|part| matches!(*part, "" | "." | ".."));
    bad.map_or(Ok(()), |component| {
        Err(ModelRefError::Component {
            component: component.into(),
        })
    })
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialSchema for ModelRef {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .max_length(Some(MAX_MODEL_REF_LEN))
            .description(Some("hf:org/repo[/file.gguf], file:/abs, a relative path, https://…, s3://…, oci://… or a catalog id"))
            .examples(["hf:org/repo/file.gguf", "file:/models/tiny.gguf", "tiny"])
            .build()
            .into()
    }
}

impl ToSchema for ModelRef {}

impl TryFrom<Cow<'_, str>> for ModelRef {
    type Error = ModelRefError;
    fn try_from(text: Cow<'_, str>) -> Result<Self, ModelRefError> {
        text.parse()
    }
}

impl From<ModelRef> for String {
    fn from(reference: ModelRef) -> Self {
        reference.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        use ModelRefKind as K;
        for (text, kind) in [
            ("hf:org/repo", K::Hub),
            ("hf:org/repo/dir/file.gguf", K::Hub),
            ("file:/models/a.gguf", K::File),
            ("models/a.gguf", K::Relative),
            ("https://example.org/a.gguf", K::Https),
            ("s3://bucket/key/a.gguf", K::S3),
            ("oci://registry.local/models/a:1", K::Oci),
            ("tiny-q4_k", K::Catalog),
        ] {
            let parsed: ModelRef = text.parse().unwrap();
            assert_eq!((parsed.kind(), parsed.as_str()), (kind, text));
        }
    }

    #[test]
    fn malformed_forms_are_typed_errors() {
        for text in [
            "",
            "hf:",
            "hf:org",
            "hf:org/../x",
            "file:relative",
            "file:/a/../b",
            "a//b",
            "../a",
            "ftp://x/y",
            "http://x/y",
            "https://",
            "https://host",
            "https://user@host/x",
            "s3://bucket",
            "a b",
            "a\\b",
            "a\nb",
            ".hidden",
        ] {
            assert!(text.parse::<ModelRef>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_printing_returns_the_text(text in "\\PC{0,60}") {
            if let Ok(parsed) = text.parse::<ModelRef>() {
                prop_assert_eq!(parsed.to_string(), text.clone());
                prop_assert!(!text.split('/').any(|part| part == ".."));
            }
        }
    }
}
