//! `https:`: a file of a web server, and where it is the first of several parts, the others beside it.

use api_types::{RelativePath, Sha256Digest};
use async_trait::async_trait;
use downloader::{Ask, FetchError, Origin};
use url::Url;

use super::{Context, Resolved, explain};
use crate::choose;
use crate::error::ProvisionError;
use crate::plan::{Place, PlannedFile};

pub(crate) async fn resolve(
    context: &Context<'_>,
    text: &str,
    sha256: Option<Sha256Digest>,
) -> Result<Resolved, ProvisionError> {
    let url = context
        .downloader
        .transport()
        .guard()
        .parse(text)
        .map_err(FetchError::from)?;
    let names = choose::with_parts(&name_of(&url)?)?;
    if names.len() > 1 && sha256.is_some() {
        return Err(ProvisionError::Ambiguous {
            what: shown(&url),
            hint: "a digest is of one file, and this model has several parts".to_owned(),
        });
    }
    let mut files = Vec::new();
    for name in &names {
        let url = if names.len() > 1 {
            beside(&url, name)
        } else {
            url.clone()
        };
        let probe = context
            .downloader
            .probe(&Ask::new(url.clone()), context.stop)
            .await;
        let probe = probe.map_err(|error| refused(&url, error))?;
        files.push(PlannedFile {
            name: relative(&url, name)?,
            bytes: probe.bytes,
            sha256,
            etag: probe.etag,
            place: Place::Web(url),
            cached: false,
        });
    }
    let mut validator = files.iter().filter_map(|file| file.etag.as_deref());
    let pinned = match (sha256, validator.next()) {
        (Some(digest), _) => format!("{}#{digest}", shown(&url)),
        (None, Some(etag)) => format!("{} at {etag}", shown(&url)),
        (None, None) => shown(&url),
    };
    Ok(Resolved { pinned, files })
}

pub(crate) fn refused(url: &Url, error: FetchError) -> ProvisionError {
    let host = url.host_str().unwrap_or_default();
    explain(
        host,
        url.path(),
        "ask for an address that is signed, or use another source",
        error,
    )
}

/// Without the query, which may be a credential.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// The last part of the path, as the server's file is called.
fn name_of(url: &Url) -> Result<String, ProvisionError> {
    let last = url.path_segments().and_then(Iterator::last).unwrap_or_default();
    let name = percent_decoded(last).filter(|name| !name.is_empty() && !name.contains('/'));
    name.ok_or_else(|| ProvisionError::malformed(shown(url), "its path names no file"))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn beside(url: &Url, name: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop().push(name);
    }
    url
}

fn relative(url: &Url, name: &str) -> Result<RelativePath, ProvisionError> {
    RelativePath::new(name).map_err(|error| ProvisionError::malformed(shown(url), error.to_string()))
}

/// A file at one address.
pub(crate) struct WebFile {
    pub(crate) url: Url,
}

#[async_trait]
impl Origin for WebFile {
    async fn ask(&self, _again: bool) -> Result<Ask, FetchError> {
        Ok(Ask::new(self.url.clone()))
    }
}
