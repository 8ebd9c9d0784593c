//! What the parts of a reference may be.

use crate::digest::Sha256Digest;
use crate::ids::ModelId;

use super::ModelRefError;
use super::split::{ModelRefParts, OciReference, PINNED};

const HUB: &str = "hf:org/repo[@revision][/file]";
const FILE: &str = "file:/absolute/path";
const HTTPS: &str = "https://host/path[#sha256=digits]";
const S3: &str = "s3://bucket/key";
const OCI: &str = "oci://registry/repository[:tag|@sha256:digits]";
const CATALOG: &str = "a catalog id (letters, digits, '.', '_', '-')";

/// Longest organization, repository or revision, bytes: what hubs allow.
const MAX_HUB_NAME: usize = 96;
/// Longest host, bytes: what the domain name system allows.
const MAX_HOST: usize = 253;

pub(super) fn parts(parts: &ModelRefParts<'_>) -> Result<(), ModelRefError> {
    match *parts {
        ModelRefParts::Hub { repo, revision, file } => hub(repo, revision, file),
        ModelRefParts::File { path } => {
            let path = path.strip_prefix('/').ok_or(form(FILE))?;
            components(path)
        }
        ModelRefParts::Relative { path } => components(path),
        ModelRefParts::Https { url, .. } => https(url),
        ModelRefParts::S3 { bucket, key } => s3(bucket, key),
        ModelRefParts::Oci {
            registry,
            repository,
            reference,
        } => oci(registry, repository, reference),
        ModelRefParts::Catalog { id } => ModelId::new(id).map(|_| ()).map_err(|_| form(CATALOG)),
    }
}

/// The fragment is no part of a URL's parts once it is taken off; here it still stands.
pub(super) fn fragment(text: &str) -> Result<(), ModelRefError> {
    let Some((_, fragment)) = text.split_once('#') else {
        return Ok(());
    };
    let digits = fragment.strip_prefix(PINNED).unwrap_or_default();
    match Sha256Digest::from_hex(digits) {
        Ok(_) => Ok(()),
        Err(_) => Err(part(
            "fragment",
            fragment,
            "sha256= and 64 lower-case hexadecimal digits",
        )),
    }
}

fn hub(repo: &str, revision: Option<&str>, file: Option<&str>) -> Result<(), ModelRefError> {
    let (org, name) = repo.split_once('/').ok_or(form(HUB))?;
    if org.is_empty() || name.is_empty() {
        return Err(form(HUB));
    }
    for (what, text) in [("organization", org), ("repository", name)] {
        named(what, text)?;
    }
    revision.map_or(Ok(()), |revision| named("revision", revision))?;
    file.map_or(Ok(()), components)
}

/// A name of a hub: nothing that a URL or a path could read in another way.
fn named(what: &'static str, text: &str) -> Result<(), ModelRefError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let name = (1..=MAX_HUB_NAME).contains(&text.len()) && text.bytes().all(fits);
    if name && !text.starts_with('.') {
        return Ok(());
    }
    Err(part(
        what,
        text,
        "1 to 96 of A-Z a-z 0-9 . _ -, not beginning with '.'",
    ))
}

fn https(url: &str) -> Result<(), ModelRefError> {
    let rest = url.strip_prefix("https://").ok_or(form(HTTPS))?;
    let (host, path) = rest.split_once('/').ok_or(form(HTTPS))?;
    authority(host, HTTPS)?;
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() {
        return Err(form(HTTPS));
    }
    // URL parsers take an escaped dot for a dot.
    components(path)?;
    components(&path.replace("%2e", ".").replace("%2E", "."))
}

fn s3(bucket: &str, key: &str) -> Result<(), ModelRefError> {
    if key.is_empty() {
        return Err(form(S3));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let edges = [bucket.chars().next(), bucket.chars().last()];
    let sound = edges.iter().flatten().all(char::is_ascii_alphanumeric) && !bucket.contains("..");
    if !((3..=63).contains(&bucket.len()) && bucket.bytes().all(fits) && sound) {
        return Err(part("bucket", bucket, "3 to 63 of a-z 0-9 . -"));
    }
    components(key)
}

fn oci(registry: &str, repository: &str, reference: OciReference<'_>) -> Result<(), ModelRefError> {
    if repository.is_empty() {
        return Err(form(OCI));
    }
    authority(registry, OCI)?;
    components(repository)?;
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'/')
    };
    if !repository.bytes().all(fits) {
        return Err(part(
            "repository",
            repository,
            "a-z 0-9 . _ - and / between components",
        ));
    }
    match reference {
        OciReference::Digest(_) => Ok(()),
        OciReference::Tag(tag) => tagged(tag),
        OciReference::Malformed(found) => Err(part(
            "digest",
            found,
            "sha256: and 64 lower-case hexadecimal digits",
        )),
    }
}

fn tagged(tag: &str) -> Result<(), ModelRefError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=128).contains(&tag.len()) && tag.bytes().all(fits) && !tag.starts_with(['.', '-']) {
        return Ok(());
    }
    Err(part(
        "tag",
        tag,
        "1 to 128 of A-Z a-z 0-9 . _ -, not beginning with '.' or '-'",
    ))
}

/// `host[:port]`; no credentials, no escapes, no other alphabets.
fn authority(text: &str, expected: &'static str) -> Result<(), ModelRefError> {
    if text.is_empty() {
        return Err(form(expected));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let fits = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'-' | b'_')
            || (text.starts_with('[') && byte == b':')
    };
    let host = (1..=MAX_HOST).contains(&host.len()) && host.bytes().all(fits);
    let port =
        port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    if host && port {
        return Ok(());
    }
    Err(part(
        "host",
        text,
        "a name or address in ASCII, with a port or without, and no credentials",
    ))
}

fn components(path: &str) -> Result<(), ModelRefError> {
    let bad = path.split('/').find(|part| matches!(*part, "" | "." | ".."));
    bad.map_or(Ok(()), |component| {
        Err(ModelRefError::Component {
            component: component.into(),
        })
    })
}

const fn form(expected: &'static str) -> ModelRefError {
    ModelRefError::Form { expected }
}

fn part(part: &'static str, found: &str, rule: &'static str) -> ModelRefError {
    ModelRefError::Part {
        part,
        found: found.into(),
        rule,
    }
}
