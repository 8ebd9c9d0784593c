//! Images by name: references that are checked before they reach a command line, digests, and what a runtime holds of
//! an image. Pure.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

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

/// An image by registry, path and, best, digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// An image that is on this machine and is what its reference says. Only pulling or looking makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// As it was asked for.
    pub reference: ImageRef,
    /// The image's own digest, by which it is run: a tag that moves meanwhile changes nothing.
    pub id: Digest,
    /// The manifest's digest, where the runtime knows one: what to write into a configuration.
    pub digest: Option<Digest>,
    /// What is not as it should be.
    pub warning: Option<ImageWarning>,
}

/// What is not as it should be about an image that can be run all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageWarning {
    /// Named by a tag alone: the next pull may bring another program.
    Unpinned {
        /// The reference that stays.
        instead: Option<String>,
    },
}

impl fmt::Display for ImageWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpinned {
                instead: Some(pinned),
            } => {
                write!(f, "a tag may name another image tomorrow: write {pinned}")
            }
            Self::Unpinned { instead: None } => {
                f.write_str("a tag may name another image tomorrow: write its digest")
            }
        }
    }
}

/// `image inspect`, of both runtimes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawImage {
    id: String,
    digest: Option<String>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

/// What `image inspect` says of the image that `reference` names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inspected {
    /// It is what was asked for.
    Is(LocalImage),
    /// It has other digests.
    IsNot(Vec<Digest>),
}

/// Reads the answer to `image inspect`; the error says what is wrong with it.
pub(crate) fn inspected(reference: &ImageRef, stdout: &[u8]) -> Result<Inspected, String> {
    let images: Vec<RawImage> = serde_json::from_slice(stdout).map_err(|error| error.to_string())?;
    let [image]: [RawImage; 1] = images
        .try_into()
        .map_err(|images: Vec<RawImage>| format!("{} images instead of one", images.len()))?;
    let id = Digest::parse(&image.id).ok_or_else(|| "the image's id is no digest".to_owned())?;
    let named = image.repo_digests.unwrap_or_default();
    let of_repository = named.iter().filter_map(|name| name.split_once('@'));
    let mut digests: Vec<Digest> = image
        .digest
        .as_deref()
        .and_then(Digest::parse)
        .into_iter()
        .collect();
    digests.extend(of_repository.filter_map(|(_, digest)| Digest::parse(digest)));
    Ok(match &reference.digest {
        Some(wanted) if !digests.contains(wanted) => Inspected::IsNot(digests),
        Some(wanted) => Inspected::Is(LocalImage {
            reference: reference.clone(),
            id,
            digest: Some(wanted.clone()),
            warning: None,
        }),
        None => {
            let digest = digests.into_iter().next();
            let instead = digest.as_ref().map(|digest| reference.pinned(digest));
            Inspected::Is(LocalImage {
                reference: reference.clone(),
                id,
                digest,
                warning: Some(ImageWarning::Unpinned { instead }),
            })
        }
    })
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
        fn any_text_is_survived(text: String, junk: Vec<u8>) {
            let _read_or_not = ImageRef::parse(&text);
            prop_assert!(inspected(&read("localhost/x:1"), &junk).is_err());
        }
    }

    fn answer(id: char, digests: &[String]) -> Vec<u8> {
        let names: Vec<String> = digests
            .iter()
            .map(|digest| format!("localhost/x@{digest}"))
            .collect();
        serde_json::to_vec(&serde_json::json!([{"Id": hex(id), "RepoDigests": names, "Size": 5}])).unwrap()
    }

    /// REQ-CONTAINER-DIGEST.
    #[test]
    fn an_image_is_what_its_digest_says_or_refused() {
        let (a, b) = (format!("sha256:{}", hex('a')), format!("sha256:{}", hex('b')));
        let pinned = read(&format!("localhost/x:1@{a}"));
        let found = inspected(&pinned, &answer('1', &[b.clone(), a.clone()])).unwrap();
        let Inspected::Is(image) = found else {
            panic!("{found:?}")
        };
        assert_eq!(image.id.as_str(), format!("sha256:{}", hex('1')));
        assert_eq!((image.digest, image.warning), (Digest::parse(&a), None));
        assert_eq!(
            inspected(&pinned, &answer('1', std::slice::from_ref(&b))).unwrap(),
            Inspected::IsNot(vec![Digest::parse(&b).unwrap()])
        );
        assert_eq!(
            inspected(&pinned, &answer('1', &[])).unwrap(),
            Inspected::IsNot(Vec::new())
        );
        let docker = format!(r#"[{{"Id":"sha256:{}","RepoDigests":null}}]"#, hex('1'));
        assert_eq!(
            inspected(&pinned, docker.as_bytes()).unwrap(),
            Inspected::IsNot(Vec::new())
        );
    }

    /// REQ-CONTAINER-DIGEST.
    #[test]
    fn a_tag_alone_warns_and_names_what_stays() {
        let a = format!("sha256:{}", hex('a'));
        let found = inspected(&read("localhost/x:1"), &answer('1', std::slice::from_ref(&a))).unwrap();
        let Inspected::Is(image) = found else {
            panic!("{found:?}")
        };
        let warning = image.warning.unwrap().to_string();
        assert!(warning.ends_with(&format!("write localhost/x@{a}")), "{warning}");
    }

    #[test]
    fn other_answers_are_no_answer() {
        for junk in ["", "[]", "{}", r#"[{"Id":"x"}]"#, r#"[{"RepoDigests":[]}]"#] {
            assert!(
                inspected(&read("localhost/x:1"), junk.as_bytes()).is_err(),
                "{junk}"
            );
        }
    }
}
