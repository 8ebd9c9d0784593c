//! `hf:`: a model hub. The revision is resolved to a commit once; every file is then asked for by that commit.

use std::collections::HashMap;

use api_types::{RelativePath, Sha256Digest};
use async_trait::async_trait;
use downloader::{Ask, Credential, FetchError, Origin};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::{Context, Resolved, explain};
use crate::choose;
use crate::error::ProvisionError;
use crate::plan::{Place, PlannedFile};
use crate::settings::HubSettings;

const ENDPOINT: &str = "https://huggingface.co";
const DEFAULT_REVISION: &str = "main";
/// The largest list of a repository that is read: some ten thousand files.
const MAX_LIST: usize = 16 << 20;
const COMMIT_DIGITS: usize = 40;

#[derive(Deserialize)]
struct Repository {
    sha: Option<String>,
    siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

pub(crate) async fn resolve(
    context: &Context<'_>,
    repo: &str,
    revision: Option<&str>,
    file: Option<&str>,
) -> Result<Resolved, ProvisionError> {
    let hub = &context.settings.hub;
    let endpoint = endpoint(hub)?;
    let known = list(context, &endpoint, repo, revision.unwrap_or(DEFAULT_REVISION)).await?;
    let commit = known.sha.filter(|sha| is_commit(sha));
    let commit = commit
        .ok_or_else(|| ProvisionError::malformed(endpoint.as_str(), format!("{repo} has no commit")))?;
    let siblings: HashMap<String, Sibling> = known
        .siblings
        .unwrap_or_default()
        .into_iter()
        .map(|sibling| (sibling.rfilename.clone(), sibling))
        .collect();
    let names = match file {
        Some(file) => choose::with_parts(file)?,
        None => {
            let mut names: Vec<&str> = siblings.keys().map(String::as_str).collect();
            names.sort_unstable();
            let chosen = choose::whole(&format!("hf:{repo}"), &names)?;
            chosen.into_iter().map(str::to_owned).collect()
        }
    };
    let mut files = Vec::new();
    for name in &names {
        let sibling = siblings.get(name).ok_or_else(|| ProvisionError::NotFound {
            source_name: endpoint.to_string(),
            what: format!("{name} in {repo} at {commit}"),
        })?;
        files.push(planned(&endpoint, repo, &commit, sibling)?);
    }
    let file = file.map(|file| format!("/{file}")).unwrap_or_default();
    Ok(Resolved {
        pinned: format!("hf:{repo}@{commit}{file}"),
        files,
    })
}

async fn list(
    context: &Context<'_>,
    endpoint: &Url,
    repo: &str,
    revision: &str,
) -> Result<Repository, ProvisionError> {
    let hub = &context.settings.hub;
    let mut url = below(endpoint, &["api", "models"], repo)?;
    extend(&mut url, &["revision", revision])?;
    url.set_query(Some("blobs=true"));
    let ask = Ask::new(url).with_credential(credential(hub.token.as_ref()));
    let answer = context.downloader.answer(&ask, context.stop).await;
    let answer = answer.map_err(|error| refused(endpoint, repo, &format!("{repo} at {revision}"), error))?;
    let bytes = answer.bytes(MAX_LIST).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ProvisionError::malformed(endpoint.as_str(), format!("the list of {repo} is none: {error}"))
    })
}

fn planned(
    endpoint: &Url,
    repo: &str,
    commit: &str,
    sibling: &Sibling,
) -> Result<PlannedFile, ProvisionError> {
    let odd = |what: String| ProvisionError::malformed(endpoint.as_str(), what);
    let name = RelativePath::new(&sibling.rfilename)
        .map_err(|error| odd(format!("{:?}: {error}", sibling.rfilename)))?;
    let sha256 = match sibling.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref()) {
        Some(digits) => {
            let digest = Sha256Digest::from_hex(digits).map_err(|error| odd(format!("{name}: {error}")))?;
            Some(digest)
        }
        None => None,
    };
    let mut url = below(endpoint, &[], repo)?;
    extend(&mut url, &["resolve", commit])?;
    let parts: Vec<&str> = name.as_str().split('/').collect();
    extend(&mut url, &parts)?;
    Ok(PlannedFile {
        bytes: sibling.lfs.as_ref().and_then(|lfs| lfs.size).or(sibling.size),
        sha256,
        etag: None,
        place: Place::Hub(url),
        cached: false,
        name,
    })
}

/// What the hub's words mean.
pub(crate) fn refused(endpoint: &Url, repo: &str, what: &str, error: FetchError) -> ProvisionError {
    let detail = match &error {
        FetchError::Status { detail, .. } => detail.clone().unwrap_or_default(),
        _ => String::new(),
    };
    let source_name = endpoint.to_string();
    match detail.as_str() {
        "GatedRepo" => ProvisionError::Gated {
            repo: repo.to_owned(),
            url: format!("{}/{repo}", endpoint.as_str().trim_end_matches('/')),
        },
        "RepoNotFound" | "RevisionNotFound" | "EntryNotFound" => ProvisionError::NotFound {
            source_name,
            what: match detail.as_str() {
                "RepoNotFound" => format!("{what} that it would show (a private one needs HF_TOKEN)"),
                _ => what.to_owned(),
            },
        },
        _ => explain(&source_name, what, "set HF_TOKEN, and check the spelling", error),
    }
}

/// The repository that a URL of a planned file is of.
pub(crate) fn repo_of(endpoint: &Url, url: &Url) -> String {
    let rest = url
        .path()
        .strip_prefix(endpoint.path())
        .unwrap_or_else(|| url.path());
    rest.trim_start_matches('/')
        .splitn(3, '/')
        .take(2)
        .collect::<Vec<_>>()
        .join("/")
}

pub(crate) fn endpoint(hub: &HubSettings) -> Result<Url, ProvisionError> {
    match &hub.endpoint {
        Some(endpoint) => Ok(endpoint.clone()),
        None => Url::parse(ENDPOINT).map_err(|error| ProvisionError::malformed(ENDPOINT, error.to_string())),
    }
}

fn below(endpoint: &Url, first: &[&str], repo: &str) -> Result<Url, ProvisionError> {
    let mut url = endpoint.clone();
    extend(&mut url, first)?;
    let parts: Vec<&str> = repo.split('/').collect();
    extend(&mut url, &parts)?;
    Ok(url)
}

/// Each part is escaped as one segment, so none can add another.
fn extend(url: &mut Url, parts: &[&str]) -> Result<(), ProvisionError> {
    let odd = url.to_string();
    let mut segments = url
        .path_segments_mut()
        .map_err(|()| ProvisionError::malformed(odd, "it has no path"))?;
    segments.pop_if_empty().extend(parts);
    Ok(())
}

fn is_commit(sha: &str) -> bool {
    sha.len() == COMMIT_DIGITS
        && sha
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn credential(token: Option<&SecretString>) -> Option<Credential> {
    token.cloned().map(Credential::Bearer)
}

/// A file of the hub: asked for by its commit each time, because the addresses that it leads to run out.
pub(crate) struct HubFile {
    pub(crate) url: Url,
    pub(crate) token: Option<SecretString>,
}

#[async_trait]
impl Origin for HubFile {
    async fn ask(&self, _again: bool) -> Result<Ask, FetchError> {
        Ok(Ask::new(self.url.clone()).with_credential(credential(self.token.as_ref())))
    }
}
