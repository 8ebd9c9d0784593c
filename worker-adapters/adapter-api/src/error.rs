//! What can go wrong at an engine, and which code of ours it is.

use api_types::ErrorCode;

/// The condition, as far as the caller needs to tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdapterErrorKind {
    /// The engine refuses the request; it will refuse it again.
    Rejected,
    /// No connection, or the engine says it is not ready.
    NotReady,
    /// It refuses us (credentials), has no such route or model, or died before answering.
    Unavailable,
    /// It has no room for one more request.
    Exhausted,
    /// No byte or no token within the limit.
    Timeout,
    /// The stream ended without the end marker, or reported a failure of the engine.
    Reset,
    /// The answer cannot be understood.
    Protocol,
}

impl AdapterErrorKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 7] = [
        Self::Rejected,
        Self::NotReady,
        Self::Unavailable,
        Self::Exhausted,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
    ];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::NotReady => "not_ready",
            Self::Unavailable => "unavailable",
            Self::Exhausted => "exhausted",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
        }
    }

    /// Our code for the condition.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Rejected => ErrorCode::InvalidParams,
            Self::NotReady => ErrorCode::PoolUnready,
            Self::Unavailable => ErrorCode::PoolUnavailable,
            Self::Exhausted => ErrorCode::ReplicaExhausted,
            Self::Timeout => ErrorCode::DecodeTimeout,
            Self::Reset => ErrorCode::WorkerReset,
            Self::Protocol => ErrorCode::Internal,
        }
    }
}

/// An engine's failure in our terms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdapterError {
    /// The condition.
    pub kind: AdapterErrorKind,
    /// What happened, bounded and redacted; safe to show to clients.
    pub message: String,
    /// When the engine asks to come back, ms.
    pub retry_after_ms: Option<u64>,
}

impl AdapterError {
    /// An error without a retry hint.
    #[must_use]
    pub fn new(kind: AdapterErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// Our code for the condition.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.kind.code()
    }

    /// Whether another replica, or this one a little later, may accept the same request. Only
    /// meaningful before the first token.
    #[must_use]
    pub const fn retriable_before_first_token(&self) -> bool {
        matches!(
            self.kind,
            AdapterErrorKind::NotReady
                | AdapterErrorKind::Unavailable
                | AdapterErrorKind::Exhausted
                | AdapterErrorKind::Reset
        )
    }
}
