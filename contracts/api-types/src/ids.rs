//! Validated id newtypes. An id that exists is safe to log, to put in a metric label and to join
//! into a path: no separators, no control characters, bounded length.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest id, in bytes. Long enough for a hub's repository name with a quantization suffix.
pub const MAX_ID_LEN: usize = 128;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Ids are never empty.
    #[error("{kind} is empty")]
    Empty {
        /// Which id type refused the text.
        kind: &'static str,
    },
    /// Longer than [`MAX_ID_LEN`].
    #[error("{kind} has {len} bytes, at most {MAX_ID_LEN} are allowed")]
    TooLong {
        /// Which id type refused the text.
        kind: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// A character outside `A-Z a-z 0-9 . _ -`, or a leading dot.
    #[error(
        "{kind} has {found:?} at byte {at}; letters, digits, '.', '_' and '-' are allowed, and no leading '.'"
    )]
    Character {
        /// Which id type refused the text.
        kind: &'static str,
        /// The offending character.
        found: char,
        /// Its byte offset.
        at: usize,
    },
}

fn check(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_ID_LEN {
        return Err(IdError::TooLong {
            kind,
            len: text.len(),
        });
    }
    let bad = text
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (c == '.' && at > 0)));
    match bad {
        Some((at, found)) => Err(IdError::Character { kind, found, at }),
        None => Ok(()),
    }
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
        #[serde(try_from = "Cow<'_, str>", into = "String")]
        #[schema(value_type = String, pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
        #[schemars(with = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text and makes it an id.
            ///
            /// # Errors
            /// [`IdError`] for an empty, too long or ill-formed text.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(stringify!($name), text)?;
                Ok(Self(text.into()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<Cow<'_, str>> for $name {
            type Error = IdError;
            fn try_from(text: Cow<'_, str>) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

string_id!(
    /// A conversation whose KV cache may be reused.
    SessionId
);
string_id!(
    /// A pool: one engine configuration on a device mask, with one or more replicas.
    PoolId
);
string_id!(
    /// One engine process of a pool.
    ReplicaId
);
string_id!(
    /// One GPU box, i.e. one pool-managerd.
    NodeId
);
string_id!(
    /// A model as clients name it (catalog id or alias).
    ModelId
);
string_id!(
    /// An engine build as the engine catalog names it.
    EngineId
);

/// A task. Doubles as the client's idempotency key, hence a UUID the client may choose.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema,
)]
#[serde(transparent)]
#[schemars(with = "String")]
#[schema(value_type = String, format = Uuid)]
pub struct TaskId(Uuid);

impl TaskId {
    /// Wraps a UUID of any version.
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// The sampling seed a task gets when the request names none: the low 32 bits of the id, so
    /// that it differs between tasks and the receipt can repeat it. `u32::MAX` is left out: it
    /// means "random every time" to llama.cpp.
    #[must_use]
    pub const fn derived_seed(&self) -> u32 {
        let low = (self.0.as_u128() & 0xffff_ffff) as u32;
        if low == u32::MAX { 0 } else { low }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self)
    }
}

/// Ties every log line, frame and header of one request together: 1–128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schema(value_type = String)]
pub struct CorrelationId(Box<str>);

impl CorrelationId {
    /// `None` unless the text is 1–128 visible ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.into()))
    }

    /// From a freshly made UUID.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.to_string().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Cow<'_, str>> for CorrelationId {
    type Error = &'static str;
    fn try_from(text: Cow<'_, str>) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a correlation id is 1 to 128 visible ASCII characters")
    }
}

impl From<CorrelationId> for String {
    fn from(id: CorrelationId) -> Self {
        id.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn path_and_control_characters_cannot_pass() {
        for bad in [
            "", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "é", "a b", "a:b",
        ] {
            assert!(PoolId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(PoolId::new(&"a".repeat(129)).is_err());
        assert_eq!(
            PoolId::new("gpu0-llama.q4_k").unwrap().as_str(),
            "gpu0-llama.q4_k"
        );
    }

    #[test]
    fn json_refuses_what_new_refuses() {
        let error = serde_json::from_str::<PoolId>("\"../etc\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("PoolId has '.' at byte 0"), "{error}");
    }

    #[test]
    fn derived_seed_is_never_the_random_marker() {
        assert_eq!(TaskId::new(Uuid::from_u128(u128::MAX)).derived_seed(), 0);
        assert_eq!(TaskId::new(Uuid::from_u128(7)).derived_seed(), 7);
    }

    proptest! {
        #[test]
        fn accepted_ids_are_single_path_components(text in "\\PC{0,140}") {
            if let Ok(id) = ModelId::new(&text) {
                let path = std::path::Path::new("root").join(id.as_str());
                prop_assert_eq!(path.components().count(), 2);
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("root")));
            }
        }

        #[test]
        fn correlation_ids_are_header_safe(text in "\\PC{0,140}") {
            if let Some(id) = CorrelationId::parse(&text) {
                prop_assert!(id.as_str().bytes().all(|b| (0x21..=0x7e).contains(&b)));
            }
        }
    }
}
