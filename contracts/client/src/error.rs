//! The one error type of the clients, and what a person can do about each failure.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api_types::{CorrelationId, ErrorBody, ErrorCode};
use auth_min::Identity;
use http::StatusCode;
use http_util::sse::EventTooLarge;
use http_util::{BuildError, HttpError};

/// Whom a client talks to: which daemon, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The daemon's name.
    pub daemon: &'static str,
    /// Its base URL, without credentials.
    pub base_url: Arc<str>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.daemon, self.base_url)
    }
}

/// Why a call or a stream failed. Nothing in it holds a token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon's address is no URL. Not repeated here: it may hold a password.
    #[error("the daemon's address is no URL")]
    Address(#[source] url::ParseError),
    /// The client cannot be made from its configuration.
    #[error("the client cannot be set up")]
    Setup(#[source] BuildError),
    /// The caller's `Last-Event-ID` holds characters that no header can carry. Nothing was sent.
    #[error("{id:?} is no event id")]
    LastEventId {
        /// The id as given.
        id: String,
    },
    /// The request has no form that can be sent. Nothing was sent.
    #[error("the request to {peer} cannot be sent")]
    Unsendable {
        /// Whom it was for.
        peer: Peer,
        /// What is wrong with it.
        #[source]
        source: Box<HttpError>,
    },
    /// No connection: refused, no route, unknown name, TLS not agreed. Nothing was sent.
    #[error("{peer} cannot be reached")]
    Unreachable {
        /// Who did not answer.
        peer: Peer,
        /// The operating system's reason.
        #[source]
        source: Box<HttpError>,
    },
    /// The daemon took longer than it may.
    #[error("{peer} did not answer within {limit:?}")]
    Timeout {
        /// Who did not answer.
        peer: Peer,
        /// The limit that passed.
        limit: Duration,
    },
    /// The connection broke: before an answer, in the middle of one, or before a stream's last event.
    #[error("the connection to {peer} was lost")]
    Disconnected {
        /// Who went away.
        peer: Peer,
        /// The transport's reason; absent when the daemon ended the stream in an orderly way, but too early.
        #[source]
        source: Option<Box<HttpError>>,
    },
    /// The daemon refused, with the contract's error body.
    #[error(transparent)]
    Api(Box<ApiError>),
    /// What answers does not speak this contract.
    #[error("{peer} gave an answer that is not of this contract")]
    Protocol {
        /// Who answered.
        peer: Peer,
        /// What is wrong with the answer.
        #[source]
        source: ProtocolFault,
    },
}

/// An error answer of the contract.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} ({}): {}", self.code(), self.status.as_u16(), self.body.message)]
pub struct ApiError {
    /// Who refused.
    pub peer: Peer,
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: ErrorBody,
    /// The `Retry-After` header.
    pub retry_after_header: Option<Duration>,
    /// The token that was sent, as the daemons log it: `token:` and six hex digits of its digest.
    pub identity: Option<Identity>,
}

/// How an answer breaks the contract.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolFault {
    /// Not HTTP, too large, or not the JSON that the route answers.
    #[error(transparent)]
    Http(Box<HttpError>),
    /// An error status without the contract's error body.
    #[error("status {status} without an error body: {excerpt:?}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The start of what came instead, redacted.
        excerpt: String,
    },
    /// The stream route answered with something else than a stream.
    #[error("the content type is {found:?}, not text/event-stream")]
    ContentType {
        /// What the header said; empty without one.
        found: String,
    },
    /// A known event with data that is not of its form.
    #[error("the data of a {name:?} event is malformed")]
    Event {
        /// The event's name.
        name: String,
        /// The parser's complaint.
        #[source]
        source: serde_json::Error,
    },
    /// The JSON of an artifact is not of its form.
    #[error("the answer is not the JSON of this route")]
    Answer {
        /// The parser's complaint.
        #[source]
        source: serde_json::Error,
    },
    /// An answer beyond the size limit.
    #[error("the answer has more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// An event whose name, id or data is not text.
    #[error("an event is not UTF-8")]
    NotText,
    /// An event beyond the size limit.
    #[error(transparent)]
    TooLarge(#[from] EventTooLarge),
}

impl ApiError {
    /// The code's wire name, e.g. `BAD_TOKEN`.
    #[must_use]
    pub fn code(&self) -> String {
        wire_name(self.body.code)
    }

    /// When to try again: the body's milliseconds where it has them, else the header's whole seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.body
            .retry_after_ms
            .map(Duration::from_millis)
            .or(self.retry_after_header)
    }

    /// What the client knows about tokens is more than the daemon may say, so it goes first there.
    fn hint(&self) -> Option<Cow<'_, str>> {
        let daemon = self.peer.daemon;
        let own = match (self.body.code, self.identity) {
            (ErrorCode::MissingToken | ErrorCode::BadToken, None) => {
                format!("{daemon} wants a token: set AUTH_TOKEN, or name a file that holds it")
            }
            (ErrorCode::MissingToken, Some(identity)) => {
                format!("{identity} was sent, but did not arrive: a proxy may have removed it")
            }
            (ErrorCode::BadToken, Some(identity)) => {
                format!("{daemon} does not know {identity}: compare with the AUTH_TOKEN it was started with")
            }
            (ErrorCode::Forbidden, _) if self.body.hint.is_none() => {
                format!("address {daemon} by a host name or address that it was told to allow")
            }
            _ => return self.body.hint.as_deref().map(Cow::Borrowed),
        };
        Some(Cow::Owned(own))
    }
}

impl ClientError {
    /// The contract's error body and status, where the daemon answered with them.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(error) => Some(error),
            _ => None,
        }
    }

    /// The id that ties the daemon's log lines to this request, where it answered.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&CorrelationId> {
        self.api()?.body.correlation_id.as_ref()
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Api(error) => error.hint(),
            Self::Unreachable { peer, .. } => Some(
                format!(
                    "is {} running, and is {} its address?",
                    peer.daemon, peer.base_url
                )
                .into(),
            ),
            Self::Timeout { peer, .. } => Some(
                format!(
                    "{} is overloaded, or something on the way drops packets",
                    peer.daemon
                )
                .into(),
            ),
            Self::Protocol { peer, .. } => {
                let Peer { daemon, base_url } = peer;
                Some(format!("does {base_url} really belong to {daemon}, and to one of this version?").into())
            }
            Self::Address(_)
            | Self::Setup(_)
            | Self::LastEventId { .. }
            | Self::Unsendable { .. }
            | Self::Disconnected { .. } => None,
        }
    }

    /// Whether the same stream may do better on another connection.
    pub(crate) fn may_resume(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Disconnected { .. } => true,
            Self::Api(error) => is_passing(error.status),
            // A reverse proxy answers for a daemon that restarts.
            Self::Protocol {
                source: ProtocolFault::Status { status, .. },
                ..
            } => is_passing(*status),
            Self::Address(_)
            | Self::Setup(_)
            | Self::LastEventId { .. }
            | Self::Unsendable { .. }
            | Self::Protocol { .. } => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.api().and_then(ApiError::retry_after)
    }

    pub(crate) fn from_http(peer: Peer, identity: Option<Identity>, error: HttpError) -> Self {
        match error {
            HttpError::Path { .. } | HttpError::Encode { .. } => Self::Unsendable {
                peer,
                source: error.into(),
            },
            HttpError::Connect { .. } | HttpError::ConnectTimeout { .. } => Self::Unreachable {
                peer,
                source: error.into(),
            },
            HttpError::FirstByteTimeout { limit, .. }
            | HttpError::RequestTimeout { limit, .. }
            | HttpError::IdleTimeout { limit, .. } => Self::Timeout { peer, limit },
            HttpError::NoResponse { .. } | HttpError::Reset { .. } => Self::Disconnected {
                peer,
                source: Some(error.into()),
            },
            HttpError::Protocol { .. } | HttpError::BodyTooLarge { .. } | HttpError::Decode { .. } => {
                Self::Protocol {
                    peer,
                    source: ProtocolFault::Http(error.into()),
                }
            }
            HttpError::Status {
                status,
                excerpt,
                retry_after,
                ..
            } => Self::from_status(peer, identity, status, excerpt, retry_after),
        }
    }

    fn from_status(
        peer: Peer,
        identity: Option<Identity>,
        status: StatusCode,
        excerpt: String,
        retry_after: Option<Duration>,
    ) -> Self {
        match serde_json::from_str(&excerpt) {
            Ok(body) => Self::Api(Box::new(ApiError {
                peer,
                status,
                body,
                retry_after_header: retry_after,
                identity,
            })),
            Err(_) => Self::Protocol {
                peer,
                source: ProtocolFault::Status { status, excerpt },
            },
        }
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn wire_name(code: ErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{code:?}"),
    }
}
