//! The reply to a short call, and what is kept of an error reply.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{ByteStream, MAX_EXCERPT_BYTES, MAX_REPLY_BYTES, StreamResponse};
use crate::error::{HttpError, Target};
use crate::redact::redact;

/// Longest wait for the body of an error reply: the status is known by then and matters more.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// Bytes of an error reply that are read before redaction. Twice the excerpt, so that a credential at the excerpt's
/// end is seen whole.
const ERROR_BODY_BYTES: usize = 2 * MAX_EXCERPT_BYTES;

/// A complete reply with a 2xx status.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The response headers.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_REPLY_BYTES`] long.
    pub body: Bytes,
    target: Target,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("target", &self.target)
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Reply {
    /// Reads a response to its end.
    pub(super) async fn read(target: Target, response: StreamResponse) -> Result<Self, HttpError> {
        let StreamResponse {
            status,
            headers,
            body,
        } = response;
        let body = read_all(&target, &headers, body, MAX_REPLY_BYTES).await?;
        Ok(Self {
            status,
            headers,
            body,
            target,
        })
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// [`HttpError::Decode`] when it is not the JSON that `T` expects.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|source| HttpError::Decode {
            target: self.target.clone(),
            source,
        })
    }
}

impl StreamResponse {
    /// Reads the body to its end.
    ///
    /// # Errors
    /// [`HttpError::BodyTooLarge`] beyond `limit` bytes, and those of a body that breaks off.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, HttpError> {
        let target = self.body.target().clone();
        read_all(&target, &self.headers, self.body, limit).await
    }

    /// The start of the body, redacted, as it is kept of error replies; whatever comes of it within two seconds.
    pub async fn excerpt(self) -> String {
        excerpt(self.body).await
    }
}

async fn read_all(
    target: &Target,
    headers: &HeaderMap,
    mut body: ByteStream,
    limit: usize,
) -> Result<Bytes, HttpError> {
    let too_large = || HttpError::BodyTooLarge {
        target: target.clone(),
        limit,
    };
    let announced = number(headers, CONTENT_LENGTH).unwrap_or_default();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut whole = BytesMut::with_capacity(announced);
    while let Some(chunk) = body.chunk().await? {
        if chunk.len() > limit - whole.len() {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// The error that a response with a status other than 2xx is, with the start of its body.
pub(super) async fn refusal(target: Target, response: StreamResponse) -> HttpError {
    let StreamResponse {
        status,
        headers,
        body,
    } = response;
    HttpError::Status {
        target,
        status,
        excerpt: excerpt(body).await,
        retry_after: retry_after(&headers),
    }
}

/// The start of an error body; whatever came before a failure or the time limit.
async fn excerpt(mut body: ByteStream) -> String {
    let mut seen = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = body.chunk().await {
            let room = ERROR_BODY_BYTES - seen.len();
            seen.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if seen.len() == ERROR_BODY_BYTES {
                break;
            }
        }
    };
    // Both outcomes leave what was read in `seen`.
    let _complete_or_cut = timeout(ERROR_BODY_WAIT, read).await;
    let mut text = redact(&String::from_utf8_lossy(&seen)).into_owned();
    text.truncate(text.floor_char_boundary(MAX_EXCERPT_BYTES));
    text
}

/// `Retry-After`: seconds, or a date. A date is taken relative to the reply's own `Date`, so that the two clocks need not
/// agree.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    if let Some(seconds) = number(headers, RETRY_AFTER) {
        return Some(Duration::from_secs(seconds));
    }
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    Some(date(RETRY_AFTER)?.duration_since(date(DATE)?).unwrap_or_default())
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
