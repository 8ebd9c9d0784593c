//! SHA-256 digests and their one spelling.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const ALGORITHM: &str = "sha256:";
const DIGITS: usize = 64;

/// `sha256:` and 64 lower-case hexadecimal digits. Whoever has the content can check it, and it is safe in a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schema(value_type = String, pattern = "^sha256:[0-9a-f]{64}$", examples("sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"))]
#[schemars(with = "String")]
pub struct Sha256Digest([u8; 32]);

/// A text that is no such digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64 lower-case hexadecimal digits")]
pub struct DigestError;

impl Sha256Digest {
    /// From the bytes that a hash function gives.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From the 64 digits without the algorithm, as hubs and storage services write it.
    ///
    /// # Errors
    /// [`DigestError`].
    pub fn from_hex(digits: &str) -> Result<Self, DigestError> {
        let digits = digits.as_bytes();
        if digits.len() != DIGITS {
            return Err(DigestError);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
        }
        Ok(Self(digest))
    }

    /// The 64 digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

const fn digit(byte: u8) -> Result<u8, DigestError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(DigestError),
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::from_hex(text.strip_prefix(ALGORITHM).ok_or(DigestError)?)
    }
}

impl TryFrom<Cow<'_, str>> for Sha256Digest {
    type Error = DigestError;

    fn try_from(text: Cow<'_, str>) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Sha256Digest> for String {
    fn from(digest: Sha256Digest) -> Self {
        digest.to_string()
    }
}
