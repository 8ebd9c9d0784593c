//! A request as data: what to send, not where.

use std::fmt;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::error::HttpError;

/// A request below an endpoint's address. The path starts with `/` and may carry a query.
#[derive(Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Leaves out header values, the query and the body: credentials and prompts stand there.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path_without_query())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Request {
    /// A request of any method.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// A `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A `POST`.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Sets a header, replacing an earlier value of the same name. The endpoint's own `Authorization` wins over one
    /// set here.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets a body that is JSON already, with its content type.
    #[must_use]
    pub fn json_bytes(mut self, body: Bytes) -> Self {
        self.body = body;
        self.header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// Writes `body` as JSON and sets it, with its content type.
    ///
    /// # Errors
    /// [`HttpError::Encode`] when `body` has no JSON form.
    pub fn json<B: Serialize + ?Sized>(self, body: &B) -> Result<Self, HttpError> {
        match serde_json::to_vec(body) {
            Ok(bytes) => Ok(self.json_bytes(bytes.into())),
            Err(source) => Err(HttpError::Encode {
                path: self.path,
                source,
            }),
        }
    }

    pub(super) fn path_without_query(&self) -> &str {
        self.path.split_once('?').map_or(&self.path, |(path, _)| path)
    }
}
