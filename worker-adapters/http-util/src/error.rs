//! What can go wrong in an exchange, told apart as far as callers act differently on it.
//! Owns the classification of transport errors; no other module looks inside them.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::{Method, StatusCode};
use url::Url;

/// The error below an [`HttpError`]: text for a log, free of URLs and header values.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Method and address of an exchange without query and credentials, as in `POST http://127.0.0.1:8080/completion`.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Box<str>);

impl Target {
    pub(crate) fn new(method: &Method, url: &Url) -> Self {
        let origin = url.origin().ascii_serialization();
        Self(format!("{method} {origin}{}", url.path()).into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a client or an endpoint could not be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A field of [`ClientOptions`](crate::ClientOptions) has a value that cannot work.
    #[error("{field} {rule}")]
    Option {
        /// The field's name.
        field: &'static str,
        /// What it must satisfy.
        rule: &'static str,
    },
    /// The base address of an endpoint is not one.
    #[error("{origin}: an endpoint's address {rule}")]
    Address {
        /// Scheme, host and port of the address; never its credentials.
        origin: String,
        /// What it must satisfy.
        rule: &'static str,
    },
    /// The bearer token cannot be sent in a header: it holds a control character.
    #[error("the bearer token holds a character that a header cannot carry")]
    Bearer,
    /// TLS or the connector could not be set up, for example because the machine has no root certificates.
    #[error("HTTP client set-up failed")]
    Setup(#[source] Cause),
}

/// How an exchange failed. Byte counts are of the response body, after transfer decoding.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The path given by the caller does not stay below the endpoint's address. Nothing was sent.
    #[error("{path:?} is no path below {base}: {rule}")]
    Path {
        /// The path as given, without its query.
        path: String,
        /// The endpoint's address.
        base: String,
        /// What a path must satisfy.
        rule: &'static str,
    },
    /// The request body could not be written as JSON. Nothing was sent.
    #[error("the body of {path} cannot be written as JSON")]
    Encode {
        /// Path of the request.
        path: String,
        /// The serializer's complaint.
        #[source]
        source: serde_json::Error,
    },
    /// No connection: refused, unreachable, name unknown, or TLS not agreed. Nothing was sent.
    #[error("{target}: no connection")]
    Connect {
        /// The exchange.
        target: Target,
        /// The operating system's or TLS library's reason.
        #[source]
        source: Cause,
    },
    /// No connection within `connect_timeout`. Nothing was sent.
    #[error("{target}: no connection within {limit:?}")]
    ConnectTimeout {
        /// The exchange.
        target: Target,
        /// The limit that passed.
        limit: Duration,
    },
    /// The connection ended before a response head. The request may have been acted upon.
    #[error("{target}: connection closed before a response")]
    NoResponse {
        /// The exchange.
        target: Target,
        /// The transport's reason.
        #[source]
        source: Cause,
    },
    /// What came back is not HTTP.
    #[error("{target}: the response head is not HTTP")]
    Protocol {
        /// The exchange.
        target: Target,
        /// The parser's complaint.
        #[source]
        source: Cause,
    },
    /// No response head within `first_byte_timeout`.
    #[error("{target}: no response within {limit:?}")]
    FirstByteTimeout {
        /// The exchange.
        target: Target,
        /// The limit that passed.
        limit: Duration,
    },
    /// A short call was not complete within `request_timeout`.
    #[error("{target}: not complete within {limit:?}")]
    RequestTimeout {
        /// The exchange.
        target: Target,
        /// The limit that passed.
        limit: Duration,
    },
    /// The body sent nothing for `idle_timeout` while somebody waited for it.
    #[error("{target}: silent for {limit:?} after {bytes_received} bytes")]
    IdleTimeout {
        /// The exchange.
        target: Target,
        /// The limit that passed.
        limit: Duration,
        /// Body bytes that came before.
        bytes_received: u64,
    },
    /// The body broke off: reset, early end of file, or broken framing.
    #[error("{target}: the response broke off after {bytes_received} bytes")]
    Reset {
        /// The exchange.
        target: Target,
        /// Body bytes that came before.
        bytes_received: u64,
        /// The transport's reason.
        #[source]
        source: Cause,
    },
    /// A short reply is larger than [`MAX_REPLY_BYTES`](crate::client::MAX_REPLY_BYTES).
    #[error("{target}: the reply exceeds the limit of {limit} bytes")]
    BodyTooLarge {
        /// The exchange.
        target: Target,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The peer answered with a status other than 2xx. Redirects are not followed and end up here too.
    #[error("{target}: status {status}")]
    Status {
        /// The exchange.
        target: Target,
        /// The status.
        status: StatusCode,
        /// The start of the body, redacted, at most [`MAX_EXCERPT_BYTES`](crate::client::MAX_EXCERPT_BYTES) long;
        /// empty when none came. Not part of the message: engines echo prompts in it.
        excerpt: String,
        /// `Retry-After`, when the peer sent one that can be understood.
        retry_after: Option<Duration>,
    },
    /// A reply's body is not the JSON that was expected.
    #[error("{target}: unexpected reply body")]
    Decode {
        /// The exchange.
        target: Target,
        /// The parser's complaint.
        #[source]
        source: serde_json::Error,
    },
}

impl HttpError {
    /// The status the peer answered with, if it answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long the peer asked to wait before another try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Classifies a failure that came before the response head.
    pub(crate) fn before_head(target: Target, connect_timeout: Duration, error: reqwest::Error) -> Self {
        let limit = connect_timeout;
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => Self::ConnectTimeout { target, limit },
            (true, false) => Self::Connect {
                target,
                source: cause(error),
            },
            (false, _) if is_parse(&error) => Self::Protocol {
                target,
                source: cause(error),
            },
            (false, _) => Self::NoResponse {
                target,
                source: cause(error),
            },
        }
    }

    /// Classifies a failure of a body that had begun.
    pub(crate) fn in_body(target: Target, bytes_received: u64, error: reqwest::Error) -> Self {
        Self::Reset {
            target,
            bytes_received,
            source: cause(error),
        }
    }
}

/// The URL goes: it is in the target already, and its query may hold a credential.
pub(crate) fn cause(error: reqwest::Error) -> Cause {
    Box::new(error.without_url())
}

fn is_parse(error: &reqwest::Error) -> bool {
    std::iter::successors(error.source(), |&e| e.source())
        .filter_map(|e| e.downcast_ref::<hyper::Error>())
        .any(hyper::Error::is_parse)
}
