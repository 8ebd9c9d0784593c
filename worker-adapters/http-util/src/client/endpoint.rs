//! An address with its credential, and the ways to use it: a short call, a stream, an answer to hand on.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use super::reply::refusal;
use super::{ByteStream, ClientOptions, Reply, Request, StreamResponse};
use crate::error::{BuildError, HttpError, Target};

/// A base address and the credential that belongs to it. Cheap to clone. Made by
/// [`Client::endpoint`](super::Client::endpoint).
#[derive(Clone)]
pub struct Endpoint {
    transport: reqwest::Client,
    options: Arc<ClientOptions>,
    base: Arc<Url>,
    authorization: Option<HeaderValue>,
    /// Sent with every request: facts about the address.
    headers: HeaderMap,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base.as_str())
            .field("authorization", &self.authorization.is_some())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(super) fn new(
        transport: reqwest::Client,
        options: Arc<ClientOptions>,
        base: Url,
        bearer: Option<&SecretString>,
    ) -> Result<Self, BuildError> {
        check_address(&base)?;
        let authorization = bearer.map(bearer_value).transpose()?;
        Ok(Self {
            transport,
            options,
            base: Arc::new(base),
            authorization,
            headers: HeaderMap::new(),
        })
    }

    /// The same address with a header that belongs to it: sent with every request, and stronger than one of the same
    /// name in the request.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The address that every request of this endpoint stays below.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// `GET`s a JSON document.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`HttpError::Decode`].
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, HttpError> {
        self.send(Request::get(path)).await?.json()
    }

    /// `POST`s a JSON document and reads one back.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), [`HttpError::Encode`] and [`HttpError::Decode`].
    pub async fn post_json<B, T>(&self, path: &str, body: &B) -> Result<T, HttpError>
    where
        B: Serialize + ?Sized + Sync,
        T: DeserializeOwned,
    {
        self.send(Request::post(path).json(body)?).await?.json()
    }

    /// A short call: sends, and reads the whole reply, within `request_timeout`.
    ///
    /// # Errors
    /// Every [`HttpError`] but `Encode` and `Decode`. A status other than 2xx is [`HttpError::Status`].
    pub async fn send(&self, request: Request) -> Result<Reply, HttpError> {
        let url = self.url(&request)?;
        let target = Target::new(&request.method, &url);
        let exchange = async {
            let response = self.exchange(request, url, &target).await?;
            Reply::read(target.clone(), response).await
        };
        within(self.options.request_timeout, &target, exchange).await
    }

    /// A stream: sends, waits for the response head, and hands the body over unread. Dropping the body closes the
    /// connection (HTTP/1.1) or resets the stream (HTTP/2), which is how a generation is cancelled.
    ///
    /// # Errors
    /// Those before and at the response head; a status other than 2xx is [`HttpError::Status`].
    pub async fn stream(&self, request: Request) -> Result<StreamResponse, HttpError> {
        let url = self.url(&request)?;
        let target = Target::new(&request.method, &url);
        self.exchange(request, url, &target).await
    }

    /// The same as [`stream`](Self::stream), for somebody who hands answers on instead of reading them: every status is
    /// an answer, and its body comes as the peer sends it.
    ///
    /// # Errors
    /// Those before and at the response head.
    pub async fn forward(&self, request: Request) -> Result<StreamResponse, HttpError> {
        let url = self.url(&request)?;
        let target = Target::new(&request.method, &url);
        self.head(request, url, &target).await
    }

    async fn exchange(
        &self,
        request: Request,
        url: Url,
        target: &Target,
    ) -> Result<StreamResponse, HttpError> {
        let response = self.head(request, url, target).await?;
        if response.status.is_success() {
            Ok(response)
        } else {
            Err(refusal(target.clone(), response).await)
        }
    }

    async fn head(&self, request: Request, url: Url, target: &Target) -> Result<StreamResponse, HttpError> {
        let limit = self.options.first_byte_timeout;
        let head = timeout(limit, self.transport.execute(self.outgoing(request, url)))
            .await
            .map_err(|_elapsed| HttpError::FirstByteTimeout {
                target: target.clone(),
                limit,
            })?
            .map_err(|e| HttpError::before_head(target.clone(), self.options.connect_timeout, e))?;
        let (head, body) = http::Response::<reqwest::Body>::from(head).into_parts();
        let body = ByteStream::new(body, self.options.idle_timeout, target.clone());
        Ok(StreamResponse {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    fn outgoing(&self, request: Request, url: Url) -> reqwest::Request {
        let mut out = reqwest::Request::new(request.method, url);
        *out.headers_mut() = request.headers;
        for (name, value) in &self.headers {
            out.headers_mut().insert(name, value.clone());
        }
        if let Some(authorization) = &self.authorization {
            out.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        if !request.body.is_empty() {
            *out.body_mut() = Some(request.body.into());
        }
        out
    }

    /// Joins by text, not by URL reference: a reference could name another host.
    fn url(&self, request: &Request) -> Result<Url, HttpError> {
        let refuse = |rule| HttpError::Path {
            path: request.path_without_query().to_owned(),
            base: self.base.to_string(),
            rule,
        };
        if !request.path.starts_with('/') || request.path.contains('#') {
            return Err(refuse("must start with '/' and have no fragment"));
        }
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{}", request.path)).map_err(|_| refuse("must be a URL path"))?;
        let prefix = self.base.path().trim_end_matches('/');
        let below = url
            .path()
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'));
        if below {
            Ok(url)
        } else {
            Err(refuse("must not climb out with '..'"))
        }
    }
}

fn check_address(base: &Url) -> Result<(), BuildError> {
    let refuse = |rule| {
        Err(BuildError::Address {
            origin: base.origin().ascii_serialization(),
            rule,
        })
    };
    if !matches!(base.scheme(), "http" | "https") {
        return refuse("must start with http:// or https://");
    }
    if !base.username().is_empty() || base.password().is_some() {
        return refuse("must not hold credentials");
    }
    if base.query().is_some() || base.fragment().is_some() {
        return refuse("must not hold a query or a fragment");
    }
    Ok(())
}

fn bearer_value(token: &SecretString) -> Result<HeaderValue, BuildError> {
    let text = SecretString::from(format!("Bearer {}", token.expose_secret()));
    let mut value = HeaderValue::from_str(text.expose_secret()).map_err(|_| BuildError::Bearer)?;
    value.set_sensitive(true);
    Ok(value)
}

async fn within<T>(
    limit: Option<Duration>,
    target: &Target,
    exchange: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    match limit {
        None => exchange.await,
        Some(limit) => timeout(limit, exchange)
            .await
            .map_err(|_elapsed| HttpError::RequestTimeout {
                target: target.clone(),
                limit,
            })?,
    }
}
