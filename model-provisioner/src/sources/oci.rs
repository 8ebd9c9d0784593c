//! `oci:`: an artifact of a registry, also of ollama's. A tag is resolved to a digest once. Tokens are fetched from where the
//! registry says, if that belongs to the registry: a stranger is never told who is asking.

use std::sync::Arc;

use api_types::{OciReference, Sha256Digest};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use downloader::{Ask, Credential, Downloader, FetchError, Origin};
use http::StatusCode;
use http::header::{ACCEPT, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::manifest::{self, Manifest};
use super::{Context, Resolved, explain};
use crate::error::ProvisionError;
use crate::plan::{Place, PlannedFile};
use crate::settings::{RegistryLogin, Settings};

/// Manifests have some kilobytes; registries take four megabytes at most.
const MAX_MANIFEST: usize = 4 << 20;
const MAX_TOKEN: usize = 1 << 20;

pub(crate) async fn resolve(
    context: &Context<'_>,
    registry: &str,
    repository: &str,
    reference: OciReference<'_>,
) -> Result<Resolved, ProvisionError> {
    let what = format!("oci://{registry}/{repository}");
    let session = Session::new(context.settings, context.downloader, registry, repository)?;
    let (asked, pinned) = match reference {
        OciReference::Tag(tag) => (tag.to_owned(), None),
        OciReference::Digest(digest) => (digest.to_string(), Some(digest)),
        OciReference::Malformed(found) => {
            return Err(ProvisionError::malformed(what, format!("{found:?} is no digest")));
        }
    };
    let (mut digest, mut manifest) = session.manifest(context.stop, &what, &asked, pinned).await?;
    if let Some(only) = manifest.only(&what)? {
        (digest, manifest) = session
            .manifest(context.stop, &what, &only.to_string(), Some(only))
            .await?;
    }
    let place = || Place::Blob {
        registry: registry.to_owned(),
        repository: repository.to_owned(),
    };
    let files = manifest.files(&what)?.into_iter().map(|layer| PlannedFile {
        name: layer.name,
        bytes: Some(layer.size),
        sha256: Some(layer.digest),
        etag: None,
        place: place(),
        cached: false,
    });
    Ok(Resolved {
        pinned: format!("{what}@{digest}"),
        files: files.collect(),
    })
}

pub(crate) fn refused(registry: &str, what: &str, error: FetchError) -> ProvisionError {
    explain(
        registry,
        what,
        "log in to the registry, and check the spelling",
        error,
    )
}

/// How a registry wants to be told who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

#[derive(Default)]
struct Known {
    challenge: Option<Challenge>,
    credential: Option<Credential>,
}

/// One repository of one registry.
pub(crate) struct Session {
    downloader: Downloader,
    base: Url,
    repository: String,
    login: Option<RegistryLogin>,
    known: Mutex<Known>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

impl Session {
    pub(crate) fn new(
        settings: &Settings,
        downloader: &Downloader,
        registry: &str,
        repository: &str,
    ) -> Result<Self, ProvisionError> {
        let scheme = downloader.transport().guard().scheme_of(registry);
        let base = Url::parse(&format!("{scheme}://{registry}/"));
        let base = base.map_err(|error| ProvisionError::malformed(registry, error.to_string()))?;
        Ok(Self {
            downloader: downloader.clone(),
            base,
            repository: repository.to_owned(),
            login: settings
                .registries
                .iter()
                .find(|login| login.registry == registry)
                .cloned(),
            known: Mutex::default(),
        })
    }

    /// A manifest and its digest, which is checked.
    async fn manifest(
        &self,
        stop: &CancellationToken,
        what: &str,
        reference: &str,
        pinned: Option<Sha256Digest>,
    ) -> Result<(Sha256Digest, Manifest), ProvisionError> {
        let registry = self.base.authority().to_owned();
        let refused = |error| refused(&registry, &format!("{what} ({reference})"), error);
        let mut again = false;
        let answer = loop {
            let ask = self
                .ask(&format!("manifests/{reference}"), again)
                .await
                .map_err(refused)?;
            let ask = ask.header(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
            match self.downloader.transport().get(&ask).await {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !again => {
                    self.learn(&answer.headers).await?;
                    again = true;
                }
                Ok(_) => break self.downloader.answer(&ask, stop).await.map_err(refused)?,
                Err(error) => break Err(refused(error))?,
            }
        };
        let told = answer
            .text("docker-content-digest")
            .and_then(|digest| digest.parse().ok());
        let bytes = answer.bytes(MAX_MANIFEST).await?;
        let found = Sha256Digest::new(Sha256::digest(&bytes).into());
        if let Some(expected) = pinned.or(told).filter(|expected| *expected != found) {
            let name = format!("the manifest of {what}");
            return Err(FetchError::Digest {
                name,
                expected,
                found,
            }
            .into());
        }
        let manifest = Manifest::parse(&bytes);
        let manifest = manifest
            .map_err(|error| ProvisionError::malformed(what, format!("its manifest is none: {error}")))?;
        Ok((found, manifest))
    }

    /// A request below the repository; `again` with a credential that is new.
    async fn ask(&self, path: &str, again: bool) -> Result<Ask, FetchError> {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{}/{path}", self.repository));
        let mut known = self.known.lock().await;
        if again {
            known.credential = self.credential(known.challenge.as_ref()).await?;
        }
        Ok(Ask::new(url).with_credential(known.credential.clone()))
    }

    async fn learn(&self, headers: &HeaderMap) -> Result<(), ProvisionError> {
        let challenges = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut challenge = None;
        for text in challenges {
            challenge = challenge.or(self.challenge(text)?);
        }
        self.known.lock().await.challenge = challenge;
        Ok(())
    }

    fn challenge(&self, text: &str) -> Result<Option<Challenge>, ProvisionError> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(Some(Challenge::Basic));
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(None);
        }
        let registry = self.base.authority();
        let Some(realm) = parameter(rest, "realm") else {
            return Err(ProvisionError::malformed(
                registry,
                "it asks for a token and does not say from where",
            ));
        };
        let realm = self
            .downloader
            .transport()
            .guard()
            .parse(&realm)
            .map_err(FetchError::from)?;
        if !belongs(&self.base, &realm) {
            let what = format!(
                "it asks for a token from {}, which does not belong to it",
                realm.authority()
            );
            return Err(ProvisionError::malformed(registry, what));
        }
        let service = parameter(rest, "service");
        Ok(Some(Challenge::Bearer { realm, service }))
    }

    async fn credential(&self, challenge: Option<&Challenge>) -> Result<Option<Credential>, FetchError> {
        match challenge {
            None => Ok(None),
            Some(Challenge::Basic) => Ok(self.login.as_ref().map(basic)),
            Some(Challenge::Bearer { realm, service }) => {
                let mut url = realm.clone();
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                let scope = format!("repository:{}:pull", self.repository);
                url.query_pairs_mut().append_pair("scope", &scope);
                let ask = Ask::new(url).with_credential(self.login.as_ref().map(basic));
                let answer = self.downloader.transport().get(&ask).await?;
                if !answer.status.is_success() {
                    return Err(answer.refusal().await);
                }
                let host = answer.host();
                let bytes = answer.bytes(MAX_TOKEN).await?;
                let token: Option<Token> = serde_json::from_slice(&bytes).ok();
                let token = token.and_then(|token| token.token.or(token.access_token));
                match token {
                    Some(token) => Ok(Some(Credential::Bearer(token))),
                    None => {
                        let what = "with no token".to_owned();
                        Err(FetchError::Protocol { host, what })
                    }
                }
            }
        }
    }
}

fn basic(login: &RegistryLogin) -> Credential {
    let text = format!("{}:{}", login.user, login.password.expose_secret());
    Credential::Basic(SecretString::from(STANDARD.encode(text)))
}

/// `name="value"` of a challenge.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = next.trim_start().trim_start_matches(',');
    }
    None
}

/// Whether tokens of `registry` may come from `realm`: the same host, or hosts of one domain (`auth.docker.io` and
/// `registry-1.docker.io`). Addresses have no domain.
fn belongs(registry: &Url, realm: &Url) -> bool {
    if registry.origin() == realm.origin() {
        return true;
    }
    let (Some(Host::Domain(registry_host)), Some(Host::Domain(realm_host))) = (registry.host(), realm.host())
    else {
        return registry.host() == realm.host() && registry.scheme() == realm.scheme();
    };
    let domain = |host: &str| {
        let labels: Vec<&str> = host.trim_end_matches('.').rsplit('.').take(2).collect();
        (labels.len() == 2).then(|| labels.join("."))
    };
    realm.scheme() == "https"
        && domain(registry_host).is_some()
        && domain(registry_host) == domain(realm_host)
}

/// A blob: its content is named by its digest.
pub(crate) struct Blob {
    pub(crate) session: Arc<Session>,
    pub(crate) digest: Sha256Digest,
}

#[async_trait]
impl Origin for Blob {
    async fn ask(&self, again: bool) -> Result<Ask, FetchError> {
        if again {
            // A session of its own for the download has not been challenged yet.
            let probe = self.session.ask(&format!("blobs/{}", self.digest), false).await?;
            let answer = self.session.downloader.transport().get(&probe).await?;
            if answer.status == StatusCode::UNAUTHORIZED
                && let Err(error) = self.session.learn(&answer.headers).await
            {
                return Err(FetchError::Protocol {
                    host: answer.host(),
                    what: error.to_string(),
                });
            }
        }
        self.session.ask(&format!("blobs/{}", self.digest), again).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_challenge() {
        let text = r#"realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parameter(text, "realm").as_deref(),
            Some("https://auth.docker.io/token")
        );
        assert_eq!(parameter(text, "service").as_deref(), Some("registry.docker.io"));
        assert_eq!(parameter(text, "error"), None);
        assert_eq!(parameter("realm=x, service=y", "service").as_deref(), Some("y"));
    }

    /// REQ-FETCH-CREDENTIAL: tokens come from the registry's own house.
    #[test]
    fn a_realm_belongs_to_its_registry() {
        let of = |registry: &str, realm: &str| belongs(&registry.parse().unwrap(), &realm.parse().unwrap());
        for (registry, realm) in [
            ("https://registry-1.docker.io/", "https://auth.docker.io/token"),
            ("https://ghcr.io/", "https://ghcr.io/token"),
            ("https://registry.ollama.ai/", "https://ollama.ai/token"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token"),
        ] {
            assert!(of(registry, realm), "{registry} {realm}");
        }
        for (registry, realm) in [
            ("https://ghcr.io/", "https://evil.example/token"),
            ("https://ghcr.io/", "https://ghcr.io.evil.example/token"),
            ("https://registry-1.docker.io/", "http://auth.docker.io/token"),
            ("http://127.0.0.1:5000/", "http://127.0.0.2:5000/token"),
            ("https://registry/", "https://other/token"),
        ] {
            assert!(!of(registry, realm), "{registry} {realm}");
        }
    }
}
