//! Artifacts: texts and bytes that are kept by the digest of their content.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::digest::Sha256Digest;
use crate::task::closed_set;
use crate::validate::FieldError;

/// Most tags of one artifact.
pub const MAX_TAGS: usize = 32;
/// Longest tag, bytes.
pub const MAX_TAG_LEN: usize = 128;
/// Longest media type, bytes.
pub const MAX_MEDIA_TYPE_LEN: usize = 127;

/// `sha256:` and the 64 lower-case hexadecimal digits of the content's SHA-256: it can be checked by whoever has the
/// content, and is safe in a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schema(value_type = String, pattern = "^sha256:[0-9a-f]{64}$", examples("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"))]
#[schemars(with = "String")]
pub struct ArtifactId(Sha256Digest);

/// A text that is no artifact id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an artifact id is sha256: and 64 lower-case hexadecimal digits")]
pub struct ArtifactIdError;

impl ArtifactId {
    /// The id of the content with this SHA-256.
    #[must_use]
    pub const fn of_digest(digest: [u8; 32]) -> Self {
        Self(Sha256Digest::new(digest))
    }

    /// The 64 digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.hex()
    }

    /// The digest.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        self.0.bytes()
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ArtifactId {
    type Err = ArtifactIdError;

    fn from_str(text: &str) -> Result<Self, ArtifactIdError> {
        text.parse().map(Self).map_err(|_| ArtifactIdError)
    }
}

impl TryFrom<Cow<'_, str>> for ArtifactId {
    type Error = ArtifactIdError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, ArtifactIdError> {
        text.parse()
    }
}

impl From<ArtifactId> for String {
    fn from(id: ArtifactId) -> Self {
        id.to_string()
    }
}

/// A word to find artifacts by, e.g. `task:0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b`: 1 to 128 of `A-Z a-z 0-9 . _ : -`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema,
)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9._:-]{1,128}$", examples("release-7"))]
#[schemars(with = "String")]
pub struct ArtifactTag(Box<str>);

/// A text that is no tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to {MAX_TAG_LEN} characters of A-Z a-z 0-9 . _ : -")]
pub struct ArtifactTagError;

impl ArtifactTag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArtifactTag {
    type Err = ArtifactTagError;

    fn from_str(text: &str) -> Result<Self, ArtifactTagError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
        let tag = (1..=MAX_TAG_LEN).contains(&text.len()) && text.bytes().all(fits);
        tag.then(|| Self(text.into())).ok_or(ArtifactTagError)
    }
}

impl TryFrom<Cow<'_, str>> for ArtifactTag {
    type Error = ArtifactTagError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, ArtifactTagError> {
        text.parse()
    }
}

impl From<ArtifactTag> for String {
    fn from(tag: ArtifactTag) -> Self {
        tag.0.into()
    }
}

impl fmt::Display for ArtifactTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

closed_set!(
    /// What an artifact is.
    ArtifactKind {
        /// What shall be done.
        Plan = "plan",
        /// What was done or said, in short.
        Summary = "summary",
        /// A change of texts.
        Diff = "diff",
        /// The record of one task. The daemon makes one of every task that ends; clients may keep their own.
        Trace = "trace",
        /// Anything else.
        Other = "other",
    }
);

closed_set!(
    /// How `content` holds the artifact's bytes.
    #[derive(Default)]
    ContentEncoding {
        /// They are the text.
        #[default]
        Utf8 = "utf8",
        /// The text is their base64 (RFC 4648, padded).
        Base64 = "base64",
    }
);

/// `POST /v1/artifacts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"kind": "summary", "content": "All green.", "tags": ["release-7"]})))]
pub struct ArtifactRequest {
    /// What it is.
    pub kind: ArtifactKind,
    /// The content itself; not empty.
    #[schema(min_length = 1)]
    pub content: String,
    /// utf8 unless said otherwise.
    #[serde(default)]
    pub encoding: ContentEncoding,
    /// What the bytes mean, 3 to 127 visible ASCII characters; `text/plain; charset=utf-8` or, with base64,
    /// `application/octet-stream` unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Words to find it by; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub tags: Vec<ArtifactTag>,
}

impl ArtifactRequest {
    /// Checks what needs no decoding.
    ///
    /// # Errors
    /// The first [`FieldError`] in field order.
    pub fn validate(&self) -> Result<(), FieldError> {
        let broken = |field, rule| Err(FieldError { field, rule });
        if self.content.is_empty() {
            return broken("content", "must not be empty".to_owned());
        }
        if !self.media_type.as_deref().is_none_or(is_media_type) {
            let rule = format!(
                "must be a type such as text/plain, of 3 to {MAX_MEDIA_TYPE_LEN} visible ASCII characters and spaces"
            );
            return broken("media_type", rule);
        }
        let many = self.tags.len();
        if many > MAX_TAGS {
            return broken("tags", format!("has {many} tags, at most {MAX_TAGS} are allowed"));
        }
        Ok(())
    }

    /// The media type in effect.
    #[must_use]
    pub fn media_type(&self) -> &str {
        let default = match self.encoding {
            ContentEncoding::Utf8 => "text/plain; charset=utf-8",
            ContentEncoding::Base64 => "application/octet-stream",
        };
        self.media_type.as_deref().unwrap_or(default)
    }
}

fn is_media_type(text: &str) -> bool {
    let visible = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let two_parts = text
        .split_once('/')
        .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    (3..=MAX_MEDIA_TYPE_LEN).contains(&text.len()) && visible && two_parts && text.trim() == text
}

/// What is known of an artifact without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactInfo {
    /// Digest of the content.
    pub id: ArtifactId,
    /// What it is.
    pub kind: ArtifactKind,
    /// What its bytes mean.
    pub media_type: String,
    /// Length of the content, bytes.
    pub bytes: u64,
    /// Words to find it by, sorted.
    pub tags: Vec<ArtifactTag>,
    /// When it was first stored, by the wall clock, ms since 1970; for people, nothing depends on it.
    pub created_unix_ms: u64,
}

/// `GET /v1/artifacts/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// What is known of it.
    #[serde(flatten)]
    pub info: ArtifactInfo,
    /// base64 where the bytes are no UTF-8.
    pub encoding: ContentEncoding,
    /// The content.
    pub content: String,
}

/// The query of `GET /v1/artifacts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ArtifactQuery {
    /// Only artifacts with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ArtifactTag>,
    /// Only artifacts of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ArtifactKind>,
    /// Where the page before ended: its `next_cursor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^[0-9]{1,18}$")]
    pub cursor: Option<String>,
    /// Most artifacts of the page; the daemon's own bound holds as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// `GET /v1/artifacts`: one page, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactList {
    /// The artifacts of the page.
    pub artifacts: Vec<ArtifactInfo>,
    /// Asks for the next page; absent on the last one. Opaque. What is stored meanwhile is on no later page, and what
    /// is removed meanwhile shifts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Where the lasting record of a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TranscriptRef {
    /// The `trace` artifact.
    pub artifact_id: ArtifactId,
    /// SHA-256 of the artifact's bytes, hexadecimal.
    pub sha256: String,
    /// SHA-256 of the text alone (all tokens in order, UTF-8), hexadecimal: equal for equal outputs. Absent where the
    /// configuration drops texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_sha256: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> ArtifactRequest {
        ArtifactRequest {
            kind: ArtifactKind::Plan,
            content: "x".into(),
            encoding: ContentEncoding::Utf8,
            media_type: None,
            tags: Vec::new(),
        }
    }

    /// REQ-ARTIFACT-ID.
    #[test]
    fn only_a_digest_is_an_id() {
        let good = format!("sha256:{}", "0a".repeat(32));
        let id: ArtifactId = good.parse().unwrap();
        assert_eq!((id.to_string(), id.hex()), (good.clone(), "0a".repeat(32)));
        let upper = good.to_uppercase();
        for bad in [
            "",
            "sha256:",
            "sha256:../../etc/passwd",
            &good[..70],
            &upper,
            &good[7..],
            &format!("{good}0"),
            &good.replace("0a", "0g"),
            &format!("sha256:{}", "é".repeat(32)),
            "sha512:00",
        ] {
            assert!(bad.parse::<ArtifactId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bounds_name_their_field() {
        let rule = |request: ArtifactRequest| request.validate().unwrap_err().to_string();
        assert_eq!(request().validate(), Ok(()));
        let empty = ArtifactRequest {
            content: String::new(),
            ..request()
        };
        assert_eq!(rule(empty), "content: must not be empty");
        for bad in ["plain", "a/", "/a", " a/b", "a/b\n", &"a/b".repeat(50)] {
            let request = ArtifactRequest {
                media_type: Some(bad.to_owned()),
                ..request()
            };
            assert!(rule(request).starts_with("media_type: "), "{bad:?}");
        }
        let many = ArtifactRequest {
            tags: vec!["t".parse().unwrap(); 33],
            ..request()
        };
        assert_eq!(rule(many), "tags: has 33 tags, at most 32 are allowed");
    }

    proptest! {
        /// REQ-ARTIFACT-ID.
        #[test]
        fn what_parses_is_one_plain_word(text in "\\PC{0,80}") {
            if let Ok(tag) = text.parse::<ArtifactTag>() {
                prop_assert!(!tag.as_str().contains(['/', '\\', ' ', '?', '&']));
            }
            if let Ok(id) = text.parse::<ArtifactId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn ids_come_back(digest: [u8; 32]) {
            let id = ArtifactId::of_digest(digest);
            prop_assert_eq!(id.to_string().parse::<ArtifactId>(), Ok(id));
            prop_assert_eq!(id.digest(), &digest);
        }
    }
}
