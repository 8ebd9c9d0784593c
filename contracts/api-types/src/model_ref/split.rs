//! Takes a reference apart. Total: whether the parts may be so is checked elsewhere.

use crate::digest::Sha256Digest;

use super::ModelRefKind;

/// What the schemes begin with.
pub(super) const SCHEMES: [(&str, ModelRefKind); 5] = [
    ("hf:", ModelRefKind::Hub),
    ("file:", ModelRefKind::File),
    ("https://", ModelRefKind::Https),
    ("s3://", ModelRefKind::S3),
    ("oci://", ModelRefKind::Oci),
];

/// Before the digits of an `https` reference's digest.
pub(super) const PINNED: &str = "sha256=";

/// The tag in effect where none is given.
const DEFAULT_TAG: &str = "latest";

/// The parts of a reference, as they are written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRefParts<'a> {
    /// A repository of a model hub, or one file of it.
    Hub {
        /// `org/name`.
        repo: &'a str,
        /// Branch, tag or commit.
        revision: Option<&'a str>,
        /// The file's path in the repository.
        file: Option<&'a str>,
    },
    /// A file of the node.
    File {
        /// Absolute path.
        path: &'a str,
    },
    /// A file below the node's model root.
    Relative {
        /// Path below it.
        path: &'a str,
    },
    /// A file of a web server.
    Https {
        /// Its URL without the fragment.
        url: &'a str,
        /// The digest that its content must have.
        sha256: Option<Sha256Digest>,
    },
    /// An object.
    S3 {
        /// Its bucket.
        bucket: &'a str,
        /// Its key.
        key: &'a str,
    },
    /// An artifact of a registry.
    Oci {
        /// Host and port.
        registry: &'a str,
        /// The repository.
        repository: &'a str,
        /// Which of it.
        reference: OciReference<'a>,
    },
    /// An entry of the catalog.
    Catalog {
        /// Its id.
        id: &'a str,
    },
}

/// Which manifest of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OciReference<'a> {
    /// The one that has this tag at the time.
    Tag(&'a str),
    /// The one with this digest.
    Digest(Sha256Digest),
    /// Neither: no reference that was accepted has it.
    Malformed(&'a str),
}

pub(super) fn split(text: &str, kind: ModelRefKind) -> ModelRefParts<'_> {
    let scheme = SCHEMES
        .iter()
        .find(|(_, of)| *of == kind)
        .map_or("", |(scheme, _)| scheme);
    let rest = text.strip_prefix(scheme).unwrap_or(text);
    match kind {
        ModelRefKind::Hub => hub(rest),
        ModelRefKind::File => ModelRefParts::File { path: rest },
        ModelRefKind::Relative => ModelRefParts::Relative { path: rest },
        ModelRefKind::Https => https(text),
        ModelRefKind::S3 => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            ModelRefParts::S3 { bucket, key }
        }
        ModelRefKind::Oci => oci(rest),
        ModelRefKind::Catalog => ModelRefParts::Catalog { id: rest },
    }
}

fn hub(rest: &str) -> ModelRefParts<'_> {
    let name = rest.find('/').map_or(rest.len(), |at| at + 1);
    let end = rest[name..].find('/').map_or(rest.len(), |at| name + at);
    let (repo, file) = (&rest[..end], rest.get(end + 1..));
    let (repo, revision) = match repo.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision)),
        None => (repo, None),
    };
    ModelRefParts::Hub { repo, revision, file }
}

fn https(text: &str) -> ModelRefParts<'_> {
    let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
    let sha256 = fragment
        .strip_prefix(PINNED)
        .and_then(|digits| Sha256Digest::from_hex(digits).ok());
    ModelRefParts::Https { url, sha256 }
}

fn oci(rest: &str) -> ModelRefParts<'_> {
    let (registry, path) = rest.split_once('/').unwrap_or((rest, ""));
    let last = path.rfind('/').map_or(0, |at| at + 1);
    let (repository, reference) = if let Some((repository, digest)) = path.split_once('@') {
        let digest = digest
            .parse()
            .map_or(OciReference::Malformed(digest), OciReference::Digest);
        (repository, digest)
    } else if let Some(at) = path[last..].find(':') {
        (&path[..last + at], OciReference::Tag(&path[last + at + 1..]))
    } else {
        (path, OciReference::Tag(DEFAULT_TAG))
    };
    ModelRefParts::Oci {
        registry,
        repository,
        reference,
    }
}
