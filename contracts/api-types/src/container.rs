//! Engines in containers, as configuration names them: images by reference and digest, and paths that a mount can carry.
//! Parsing only; nothing is looked up here.

use std::borrow::Cow;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest reference, bytes; registries allow 255 for the name alone.
const MAX_REFERENCE_BYTES: usize = 512;

/// A SHA-256 digest of a manifest or an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

impl Digest {
    /// Reads `sha256:` and 64 hexadecimal digits, or the digits alone.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let fits = digits.len() == 64
            && digits
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        fits.then(|| Self(format!("sha256:{digits}").into()))
    }

    /// `sha256:` and 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text names no image that we would run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Too long to be one.
    #[error("the image's name has {0} bytes, at most {MAX_REFERENCE_BYTES} are allowed")]
    TooLong(usize),
    /// Something that no reference has.
    #[error("the image's name has {found:?} at byte {at}")]
    Character {
        /// The character.
        found: char,
        /// Its offset.
        at: usize,
    },
    /// No registry in front: which one is asked would be decided by a list somewhere else.
    #[error("the image {0:?} names no registry: write docker.io/… or localhost/…")]
    NoRegistry(String),
    /// A part between slashes is empty, or begins with something else than a letter or a digit.
    #[error("the image {0:?} has an empty or ill-formed part")]
    Part(String),
    /// What follows the at sign is no digest.
    #[error("{0:?} is no digest: sha256: and 64 hexadecimal digits in lower case")]
    Digest(String),
    /// An upper case letter in the path.
    #[error("the image {0:?} has an upper case letter, which no registry knows")]
    UpperCase(String),
}

/// An image by registry, path and, best, digest: `registry[:port]/path[:tag][@sha256:…]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Cow<'_, str>", into = "String")]
#[schemars(with = "String")]
pub struct ImageRef {
    name: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// Reads `registry[:port]/path[:tag][@sha256:…]`.
    ///
    /// # Errors
    /// [`ImageError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        check_characters(text)?;
        let (text, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let slash = text
            .find('/')
            .ok_or_else(|| ImageError::NoRegistry(text.to_owned()))?;
        let (name, tag) = match text[slash..].find(':') {
            Some(colon) => (&text[..slash + colon], Some(text[slash + colon + 1..].to_owned())),
            None => (text, None),
        };
        check_registry(name, &name[..slash])?;
        check_path(name, &name[slash + 1..], tag.as_deref())?;
        Ok(Self {
            name: name.into(),
            tag: tag.map(Into::into),
            digest,
        })
    }

    /// The digest, if the reference has one.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same image by this digest: what to write instead of a tag.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name)
    }

    /// What a runtime is asked for. A tag beside a digest is left out: Podman 4 refuses both, and the digest decides.
    #[must_use]
    pub fn asked(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => self.pinned(digest),
            (None, Some(tag)) => format!("{}:{tag}", self.name),
            (None, None) => format!("{}:latest", self.name),
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<Cow<'_, str>> for ImageRef {
    type Error = ImageError;
    fn try_from(text: Cow<'_, str>) -> Result<Self, ImageError> {
        Self::parse(&text)
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;
    fn from_str(text: &str) -> Result<Self, ImageError> {
        Self::parse(text)
    }
}

fn check_characters(text: &str) -> Result<(), ImageError> {
    if text.len() > MAX_REFERENCE_BYTES {
        return Err(ImageError::TooLong(text.len()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    match text.char_indices().find(|&(_, c)| !allowed(c)) {
        Some((at, found)) => Err(ImageError::Character { found, at }),
        None => Ok(()),
    }
}

fn parse_digest(text: &str) -> Result<Digest, ImageError> {
    let digest = text.starts_with("sha256:").then(|| Digest::parse(text));
    digest
        .flatten()
        .ok_or_else(|| ImageError::Digest(text.to_owned()))
}

/// As the runtimes tell a registry from the first folder of a short name.
fn check_registry(name: &str, registry: &str) -> Result<(), ImageError> {
    let host = registry.split(':').next().unwrap_or_default();
    if !begins_well(host) || registry.matches(':').count() > 1 {
        return Err(ImageError::Part(name.to_owned()));
    }
    if registry.contains(['.', ':']) || registry == "localhost" {
        return Ok(());
    }
    Err(ImageError::NoRegistry(name.to_owned()))
}

fn check_path(name: &str, path: &str, tag: Option<&str>) -> Result<(), ImageError> {
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(ImageError::UpperCase(name.to_owned()));
    }
    let tag_fits = tag.is_none_or(|tag| begins_well(tag) && !tag.contains([':', '/']) && tag.len() <= 128);
    if path.split('/').all(begins_well) && !path.contains(':') && tag_fits {
        Ok(())
    } else {
        Err(ImageError::Part(name.to_owned()))
    }
}

fn begins_well(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
}

/// An absolute path that an option of a mount can carry: without `..`, and without the characters that part options.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
#[schemars(with = "String")]
pub struct MountPath(PathBuf);

/// Why a path cannot be mounted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountPathError {
    /// Relative, or through a parent folder.
    #[error("the path {} is not absolute, or goes through ..", .0.display())]
    NotPlain(PathBuf),
    /// A comma parts the options of a mount, and a control character has no place in a path.
    #[error(
        "the path {} has a comma, a colon, a quotation mark, a backslash, a control character, or is no UTF-8",
        .0.display()
    )]
    Character(PathBuf),
}

impl MountPath {
    /// Checks a path.
    ///
    /// # Errors
    /// [`MountPathError`].
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, MountPathError> {
        let path = path.into();
        let parting = |c: char| matches!(c, ',' | ':' | '"' | '\'' | '\\') || c.is_control();
        if path.to_str().is_none_or(|text| text.contains(parting)) {
            return Err(MountPathError::Character(path));
        }
        let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
        if plain {
            Ok(Self(path))
        } else {
            Err(MountPathError::NotPlain(path))
        }
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for MountPath {
    type Error = MountPathError;
    fn try_from(path: PathBuf) -> Result<Self, MountPathError> {
        Self::new(path)
    }
}

impl From<MountPath> for PathBuf {
    fn from(path: MountPath) -> Self {
        path.0
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(digit: char) -> String {
        std::iter::repeat_n(digit, 64).collect()
    }

    fn read(text: &str) -> ImageRef {
        ImageRef::parse(text).unwrap()
    }

    #[test]
    fn references_are_read_and_shown() {
        let digest = format!("sha256:{}", hex('a'));
        for (text, asked) in [
            ("ghcr.io/ggml-org/llama.cpp:server-cuda", None),
            (
                "127.0.0.1:5000/engine",
                Some("127.0.0.1:5000/engine:latest".to_owned()),
            ),
            ("localhost/engine:1", None),
            (&format!("docker.io/a/b@{digest}"), None),
            (
                &format!("docker.io/a/b:tag@{digest}"),
                Some(format!("docker.io/a/b@{digest}")),
            ),
        ] {
            let image = read(text);
            assert_eq!(image.to_string(), text);
            assert_eq!(image.asked(), asked.unwrap_or_else(|| text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let digest = format!("sha256:{}", hex('a'));
        for text in [
            "",
            "engine",
            "library/engine:1",
            "docker.io/",
            "docker.io//x",
            "docker.io/x/",
            "docker.io/x:",
            "docker.io/x:a:b",
            "docker.io/X",
            "docker.io/x y",
            "docker.io/x;y",
            "-v.x/y",
            "docker.io/-x",
            "docker.io/x:-y",
            "a:1:2/x",
            "docker.io/x@sha256:abc",
            &format!("docker.io/x@{}", hex('a')),
            &format!("docker.io/x@sha256:{}", hex('A')),
            &format!("docker.io/x@{digest}@{digest}"),
            &format!("docker.io/{}", "x".repeat(MAX_REFERENCE_BYTES)),
        ] {
            assert!(ImageRef::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_a_safe_argument(text in "[-a-zA-Z0-9._/:@ ,;\n]{0,60}") {
            if let Ok(image) = ImageRef::parse(&text) {
                prop_assert_eq!(image.to_string(), text);
                let asked = image.asked();
                prop_assert!(!asked.starts_with('-') && !asked.contains([' ', ',', '\n', ';']));
                prop_assert_eq!(ImageRef::parse(&asked).unwrap().asked(), asked);
            }
        }

        #[test]
        fn any_text_is_survived(text: String) {
            let _read_or_not = ImageRef::parse(&text);
            if let Ok(path) = MountPath::new(&*text) {
                prop_assert!(path.as_path().is_absolute() && !text.contains([',', ':', '"', '\n']));
            }
        }
    }

    #[test]
    fn a_path_that_could_add_an_option_is_no_mount() {
        for path in ["/", "/models/a b.gguf", "/x/./y"] {
            assert_eq!(MountPath::new(path).unwrap().to_string(), path);
        }
        for path in ["", "x", "/x/../y", "../x"] {
            assert_eq!(
                MountPath::new(path),
                Err(MountPathError::NotPlain(path.into())),
                "{path}"
            );
        }
        for path in ["/x,rw", "/x:/y", "/x\"", "/x'", "/x\\", "/x\n"] {
            assert_eq!(
                MountPath::new(path),
                Err(MountPathError::Character(path.into())),
                "{path}"
            );
        }
    }

    #[test]
    fn both_are_read_from_configuration_with_their_errors() {
        let image: ImageRef = serde_json::from_str("\"localhost/x:1\"").unwrap();
        assert_eq!(serde_json::to_string(&image).unwrap(), "\"localhost/x:1\"");
        let error = serde_json::from_str::<ImageRef>("\"engine\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("names no registry"), "{error}");
        let error = serde_json::from_str::<MountPath>("\"x\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("not absolute"), "{error}");
    }
}
