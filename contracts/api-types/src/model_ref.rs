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

mod check;
mod split;

pub use split::{ModelRefParts, OciReference};

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
    /// `hf:org/repo[@revision][/file]`: a repository of a model hub.
    Hub,
    /// `file:/abs/path`: a file on the node.
    File,
    /// `dir/model.gguf`: a path below the node's model root.
    Relative,
    /// `https://host/path[#sha256=digits]`.
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
    /// A part of it has a length or a character that such parts never have.
    #[error("model_ref: {found:?} is no {part}: {rule}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What stands there.
        found: Box<str>,
        /// What must be there.
        rule: &'static str,
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

    /// What the reference consists of.
    #[must_use]
    pub fn parts(&self) -> ModelRefParts<'_> {
        split::split(&self.text, self.kind)
    }

    /// The reference without the query of an `https` one, which may be a credential: what may be kept and shown.
    #[must_use]
    pub fn without_query(&self) -> Self {
        let start = self.text.find('?').filter(|_| self.kind == ModelRefKind::Https);
        let Some(start) = start else {
            return self.clone();
        };
        let (kept, dropped) = self.text.split_at(start);
        let fragment = dropped.find('#').map_or("", |at| &dropped[at..]);
        Self {
            text: [kept, fragment].concat().into(),
            kind: self.kind,
        }
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
        let named = match self.kind {
            ModelRefKind::File | ModelRefKind::Relative | ModelRefKind::Catalog => &*self.text,
            // A query, a digest and a revision are no part of a name.
            ModelRefKind::Hub | ModelRefKind::Https | ModelRefKind::S3 | ModelRefKind::Oci => {
                self.text.split(['#', '?', '@']).next()?
            }
        };
        let last = named.rsplit(['/', ':']).next()?;
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
    let kind = kind_of(text)?;
    check::parts(&split::split(text, kind))?;
    if kind == ModelRefKind::Https {
        check::fragment(text)?;
    }
    Ok(kind)
}

fn kind_of(text: &str) -> Result<ModelRefKind, ModelRefError> {
    let known = split::SCHEMES.iter().find(|(scheme, _)| text.starts_with(scheme));
    match (known, text.split_once(':')) {
        (Some(&(_, kind)), _) => Ok(kind),
        (None, Some((scheme, _))) => Err(ModelRefError::Scheme {
            scheme: scheme.into(),
        }),
        (None, None) if text.contains('/') => Ok(ModelRefKind::Relative),
        (None, None) => Ok(ModelRefKind::Catalog),
    }
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
            .description(Some("hf:org/repo[@revision][/file.gguf], file:/abs, a relative path, https://…, s3://…, oci://… or a catalog id"))
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
    use crate::digest::Sha256Digest;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        use ModelRefKind as K;
        for (text, kind) in [
            ("hf:org/repo", K::Hub),
            ("hf:org/repo/dir/file.gguf", K::Hub),
            ("hf:org/repo@main", K::Hub),
            ("hf:org/repo@v1.0/dir/file.gguf", K::Hub),
            ("file:/models/a.gguf", K::File),
            ("models/a.gguf", K::Relative),
            ("https://example.org/a.gguf", K::Https),
            ("https://example.org:8443/a.gguf?sig=a/../b", K::Https),
            ("https://[2001:db8::1]/a.gguf", K::Https),
            ("s3://bucket/key/a.gguf", K::S3),
            ("oci://registry.local/models/a:1", K::Oci),
            ("oci://registry.local:5000/a", K::Oci),
            ("tiny-q4_k", K::Catalog),
        ] {
            let parsed: ModelRef = text.parse().unwrap();
            assert_eq!((parsed.kind(), parsed.as_str()), (kind, text));
        }
    }

    /// REQ-MODEL-REF: what a reference consists of is what it says.
    #[test]
    fn parts() {
        use ModelRefParts as P;
        let digits = "0a".repeat(32);
        let pinned = format!("oci://r/m@sha256:{digits}");
        let checked = format!("https://h/a.gguf?x=1#sha256={digits}");
        let sha256 = Sha256Digest::from_hex(&digits).unwrap();
        let hub = |revision, file| P::Hub {
            repo: "o/r",
            revision,
            file,
        };
        let oci = |registry, repository, reference| P::Oci {
            registry,
            repository,
            reference,
        };
        let https = |url, sha256| P::Https { url, sha256 };
        let s3 = P::S3 {
            bucket: "bucket",
            key: "k/a",
        };
        for (text, expected) in [
            ("hf:o/r", hub(None, None)),
            ("hf:o/r/d/f", hub(None, Some("d/f"))),
            ("hf:o/r@v/d/f", hub(Some("v"), Some("d/f"))),
            ("file:/m/a", P::File { path: "/m/a" }),
            ("m/a", P::Relative { path: "m/a" }),
            ("https://h/a", https("https://h/a", None)),
            (&checked, https("https://h/a.gguf?x=1", Some(sha256))),
            ("s3://bucket/k/a", s3),
            ("oci://r:5/m/n", oci("r:5", "m/n", OciReference::Tag("latest"))),
            ("oci://r/m:8b", oci("r", "m", OciReference::Tag("8b"))),
            (&pinned, oci("r", "m", OciReference::Digest(sha256))),
            ("tiny", P::Catalog { id: "tiny" }),
        ] {
            assert_eq!(text.parse::<ModelRef>().unwrap().parts(), expected, "{text}");
        }
    }

    #[test]
    fn a_query_may_be_a_credential_and_goes() {
        let kept = |text: &str| text.parse::<ModelRef>().unwrap().without_query().to_string();
        let fragment = format!("#sha256={}", "0a".repeat(32));
        assert_eq!(kept("https://h/a?X-Amz-Signature=s"), "https://h/a");
        assert_eq!(
            kept(&format!("https://h/a?s=1{fragment}")),
            format!("https://h/a{fragment}")
        );
        assert_eq!(kept("hf:o/r/a?b"), "hf:o/r/a?b");
    }

    /// REQ-MODEL-REF.
    #[test]
    fn malformed_forms_are_typed_errors() {
        let long_name = format!("hf:{}/r", "o".repeat(97));
        for text in [
            "",
            "hf:",
            "hf:org",
            "hf:org/",
            "hf:/repo",
            "hf:org/../x",
            "hf:org/repo/../x",
            "hf:org/repo@/x",
            "hf:org/repo@../x",
            "hf:org/re%2fpo",
            "hf:.org/repo",
            &long_name,
            "file:relative",
            "file:/",
            "file:/a/../b",
            "file://host/a",
            "a//b",
            "../a",
            "ftp://x/y",
            "http://x/y",
            "https:/x/y",
            "https://",
            "https://host",
            "https:///x",
            "https://user@host/x",
            "https://h/a/%2e%2E/b",
            "https://h/a/.%2e",
            "https://h/x#md5=00",
            "https://h/x#sha256=00",
            "https://h:port/x",
            "https://h:99999/x",
            "https://hé/x",
            "s3://bucket",
            "s3://bucket/",
            "s3://Bucket/k",
            "s3://b/k",
            "s3://bucket/a/../k",
            "oci://r",
            "oci://r/",
            "oci://r/Upper",
            "oci://r/m:",
            "oci://r/m:.tag",
            "oci://r/m@sha256:00",
            "oci://r/../m",
            "oci://u@r/m@x",
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
        fn parsing_is_total_and_printing_returns_the_text(text in "(hf:|file:/|https://|s3://|oci://)?\\PC{0,60}") {
            if let Ok(parsed) = text.parse::<ModelRef>() {
                prop_assert_eq!(parsed.to_string(), text.clone());
                let path = text.split(['?', '#']).next().unwrap_or_default();
                prop_assert!(!path.split('/').any(|part| part == ".."));
            }
        }
    }
}
