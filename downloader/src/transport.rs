//! GET with redirects. Each hop is checked, and a credential goes to the origin it belongs to and to no other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use http_util::{
    BuildError, ByteStream, Client, ClientOptions, HttpError, Request, ResolveNames, StreamResponse,
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::error::{Blocked, FetchError};
use crate::guard::{Guard, SystemResolver};

/// Hubs lead through two or three.
const MOST_REDIRECTS: u32 = 5;
/// Headers in which servers say what is wrong, in their own words.
const ERROR_HEADERS: [&str; 2] = ["x-error-code", "x-error-message"];
/// Longest word of theirs that is passed on.
const MOST_DETAIL: usize = 300;

/// Proves who is asking.
#[derive(Clone)]
pub enum Credential {
    /// A token.
    Bearer(SecretString),
    /// What `Authorization: Basic` carries, base64 already.
    Basic(SecretString),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Basic(_) => "Basic",
        })
    }
}

impl Credential {
    fn header(&self) -> Result<HeaderValue, FetchError> {
        let (scheme, secret) = match self {
            Self::Bearer(secret) => ("Bearer", secret),
            Self::Basic(secret) => ("Basic", secret),
        };
        let text = SecretString::from(format!("{scheme} {}", secret.expose_secret()));
        let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| BuildError::Bearer)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Limits on waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the head of an answer.
    pub first_byte: Duration,
    /// For the next bytes of a body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
        }
    }
}

/// A question.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Where.
    pub url: Url,
    /// GET, or HEAD where nothing but the head is wanted.
    pub method: Method,
    /// For the origin of `url` only.
    pub credential: Option<Credential>,
    /// More headers, for every hop.
    pub headers: HeaderMap,
}

impl Ask {
    /// Without credential and headers.
    #[must_use]
    pub fn new(url: Url) -> Self {
        Self {
            url,
            method: Method::GET,
            credential: None,
            headers: HeaderMap::new(),
        }
    }

    /// For the head alone.
    #[must_use]
    pub fn head(url: Url) -> Self {
        Self {
            method: Method::HEAD,
            ..Self::new(url)
        }
    }

    /// With this credential, where there is one.
    #[must_use]
    pub fn with_credential(mut self, credential: Option<Credential>) -> Self {
        self.credential = credential;
        self
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// Who answered.
    pub url: Url,
    /// With which status.
    pub status: StatusCode,
    /// And which headers.
    pub headers: HeaderMap,
    /// Its body, unread.
    pub body: ByteStream,
}

impl Answer {
    /// The host that answered.
    #[must_use]
    pub fn host(&self) -> String {
        host(&self.url)
    }

    /// A header as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// It breaks off or is larger than `limit` bytes.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, FetchError> {
        self.into_response()
            .bytes(limit)
            .await
            .map_err(FetchError::of_http)
    }

    /// The error that an answer is which gives no content.
    pub async fn refusal(self) -> FetchError {
        let said = ERROR_HEADERS
            .iter()
            .find_map(|name| self.text(name))
            .map(str::to_owned);
        let (host, status) = (self.host(), self.status);
        let retry_after = http_util::retry_after(&self.headers).or_else(|| window_reset(&self.headers));
        let excerpt = self.into_response().excerpt().await;
        let detail = said.unwrap_or_else(|| excerpt.split_whitespace().collect::<Vec<_>>().join(" "));
        let detail: String = detail
            .chars()
            .filter(|c| !c.is_control())
            .take(MOST_DETAIL)
            .collect();
        FetchError::Status {
            host,
            status,
            detail: Some(detail).filter(|detail| !detail.is_empty()),
            retry_after,
        }
    }

    fn into_response(self) -> StreamResponse {
        StreamResponse {
            status: self.status,
            headers: self.headers,
            body: self.body,
        }
    }
}

/// Asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Transport {
    client: Client,
    guard: Guard,
}

impl Transport {
    /// Looks names up with the operating system.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn new(guard: Guard, timeouts: Timeouts) -> Result<Self, FetchError> {
        Self::with_resolver(guard, timeouts, Arc::new(SystemResolver))
    }

    /// Looks names up with `resolver`; what it gives is checked all the same.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn with_resolver(
        guard: Guard,
        timeouts: Timeouts,
        resolver: Arc<dyn ResolveNames>,
    ) -> Result<Self, FetchError> {
        let client = Client::new(ClientOptions {
            connect_timeout: timeouts.connect,
            first_byte_timeout: timeouts.first_byte,
            idle_timeout: timeouts.idle,
            resolver: Some(guard.resolver(resolver)),
            ..ClientOptions::default()
        })?;
        Ok(Self { client, guard })
    }

    /// The guard.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Asks and follows redirects.
    ///
    /// # Errors
    /// [`FetchError::Blocked`] at any hop, and those of the exchange. Any status is an answer.
    pub async fn get(&self, ask: &Ask) -> Result<Answer, FetchError> {
        let mut url = ask.url.clone();
        self.guard.check(&url)?;
        for _hop in 0..=MOST_REDIRECTS {
            let answer = self.hop(&url, ask).await?;
            let location = answer
                .headers
                .get(LOCATION)
                .filter(|_| answer.status.is_redirection());
            let Some(location) = location else {
                return Ok(Answer {
                    url,
                    status: answer.status,
                    headers: answer.headers,
                    body: answer.body,
                });
            };
            let location = location.to_str().map_err(|_| Blocked::Url {
                rule: "of a redirect is no text",
            })?;
            url = self.guard.follow(&url, location)?;
        }
        Err(Blocked::Redirects { most: MOST_REDIRECTS }.into())
    }

    async fn hop(&self, url: &Url, ask: &Ask) -> Result<StreamResponse, FetchError> {
        let mut base = url.clone();
        base.set_path("/");
        base.set_query(None);
        base.set_fragment(None);
        let mut endpoint = self.client.endpoint(base, None)?;
        let same_origin = url.origin() == ask.url.origin();
        if let Some(credential) = ask.credential.as_ref().filter(|_| same_origin) {
            endpoint = endpoint.with_header(AUTHORIZATION, credential.header()?);
        }
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::new(ask.method.clone(), path)
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &ask.headers {
            request = request.header(name.clone(), value.clone());
        }
        endpoint
            .forward(request)
            .await
            .map_err(|error: HttpError| FetchError::of_http(error))
    }
}

/// `RateLimit: "api";r=0;t=55`: seconds until requests count anew.
fn window_reset(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("ratelimit")?.to_str().ok()?;
    let seconds = text.split(';').find_map(|part| part.trim().strip_prefix("t="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

pub(crate) fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
