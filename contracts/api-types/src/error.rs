//! The error taxonomy: one code, one HTTP status, one body, the same before a stream (as a status)
//! and inside one (as the `error` event).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{CorrelationId, PoolId};
use crate::session::BudgetsRemaining;
use crate::task::EngineKind;

/// What went wrong, as clients match on it. Names are fixed by the HTTP contract.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Unknown field, bad type or range, context or token budget beyond the model.
    InvalidParams,
    /// The deadline cannot be met.
    DeadlineUnmet,
    /// Trust policy is strict and a signature or digest is missing or wrong.
    UntrustedArtifact,
    /// No token where one is needed (40101).
    MissingToken,
    /// A token that is not ours (40102).
    BadToken,
    /// Host, origin or policy refusal.
    Forbidden,
    /// Unknown id.
    NotFound,
    /// Same task id with another body, or a reload in progress.
    Conflict,
    /// The model is retired.
    ModelDeprecated,
    /// Body or header limit.
    PayloadTooLarge,
    /// Full queue, rate or session budget.
    AdmissionReject,
    /// Dropped from a full queue to make room for a newer task.
    QueueFullDropLru,
    /// A bug of ours.
    Internal,
    /// The engine died or cut the stream.
    WorkerReset,
    /// The pool is not ready (cause and hint tell why).
    PoolUnready,
    /// No feasible pool.
    PoolUnavailable,
    /// All replicas are broken or busy.
    ReplicaExhausted,
    /// First-token, idle or wall watchdog.
    DecodeTimeout,
}

impl ErrorCode {
    /// Every code, for tables and tests.
    pub const ALL: [Self; 18] = [
        Self::InvalidParams,
        Self::DeadlineUnmet,
        Self::UntrustedArtifact,
        Self::MissingToken,
        Self::BadToken,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::ModelDeprecated,
        Self::PayloadTooLarge,
        Self::AdmissionReject,
        Self::QueueFullDropLru,
        Self::Internal,
        Self::WorkerReset,
        Self::PoolUnready,
        Self::PoolUnavailable,
        Self::ReplicaExhausted,
        Self::DecodeTimeout,
    ];

    /// The HTTP status that carries this code before a stream has started.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidParams | Self::DeadlineUnmet | Self::UntrustedArtifact => 400,
            Self::MissingToken | Self::BadToken => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::ModelDeprecated => 409,
            Self::PayloadTooLarge => 413,
            Self::AdmissionReject | Self::QueueFullDropLru => 429,
            Self::Internal => 500,
            Self::WorkerReset => 502,
            Self::PoolUnready | Self::PoolUnavailable | Self::ReplicaExhausted => 503,
            Self::DecodeTimeout => 504,
        }
    }

    /// The number of the authentication codes.
    #[must_use]
    pub const fn numeric(self) -> Option<u32> {
        match self {
            Self::MissingToken => Some(40_101),
            Self::BadToken => Some(40_102),
            _ => None,
        }
    }

    /// Whether the same request can succeed later without a change, unless the error says otherwise.
    #[must_use]
    pub const fn retriable(self) -> bool {
        matches!(
            self,
            Self::AdmissionReject
                | Self::QueueFullDropLru
                | Self::WorkerReset
                | Self::PoolUnready
                | Self::PoolUnavailable
                | Self::ReplicaExhausted
                | Self::DecodeTimeout
        )
    }
}

/// Which policy refused. A closed set: it is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyLabel {
    /// The queue is full and its policy refuses newcomers.
    Reject,
    /// The queue is full and its policy drops the longest waiting task of the lowest class.
    DropLru,
    /// Too many requests of one identity.
    RateLimit,
    /// The session's token budget is spent.
    BudgetTokens,
    /// The session's time budget is spent.
    BudgetTime,
    /// The session's cost budget is spent.
    BudgetCost,
    /// A placement override that this installation does not allow.
    PlacementPolicy,
    /// `Host` is not a name of this daemon.
    Host,
    /// `Origin` is not an allowed one.
    Origin,
}

/// The body of every error, as an HTTP answer and as an `error` event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub code: ErrorCode,
    /// 40101 or 40102 for the authentication codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numeric_code: Option<u32>,
    /// For people; names the field and the limit where there is one.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The engine involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// The pool involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// Whether the same request may succeed later.
    pub retriable: bool,
    /// When to try again, milliseconds from now; absent when nothing was measured to derive it from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The policy that refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_label: Option<PolicyLabel>,
    /// Machine-readable reason inside a code, e.g. `pinned_pool_infeasible`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the session's budgets still allow, where they are the reason.
    #[serde(flatten)]
    pub budgets: BudgetsRemaining,
    /// The request's correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<CorrelationId>,
}

impl ErrorBody {
    /// A body with the code's defaults and a message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            numeric_code: code.numeric(),
            message: message.into(),
            hint: None,
            engine: None,
            pool_id: None,
            retriable: code.retriable(),
            retry_after_ms: None,
            policy_label: None,
            reason: None,
            budgets: BudgetsRemaining::default(),
            correlation_id: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the refusing policy.
    #[must_use]
    pub fn with_policy(mut self, label: PolicyLabel) -> Self {
        self.policy_label = Some(label);
        self
    }

    /// Adds the machine-readable reason.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds the pool and its engine.
    #[must_use]
    pub fn with_pool(mut self, pool: PoolId, engine: EngineKind) -> Self {
        self.pool_id = Some(pool);
        self.engine = Some(engine);
        self
    }

    /// Adds when to try again (ms from now).
    #[must_use]
    pub fn with_retry_after(mut self, after_ms: Option<u64>) -> Self {
        self.retry_after_ms = after_ms;
        self
    }

    /// Adds what the session's budgets still allow.
    #[must_use]
    pub fn with_budgets(mut self, budgets: BudgetsRemaining) -> Self {
        self.budgets = budgets;
        self
    }

    /// Adds the request's correlation id.
    #[must_use]
    pub fn with_correlation(mut self, id: CorrelationId) -> Self {
        self.correlation_id = Some(id);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_the_contract() {
        let contract = [
            ("INVALID_PARAMS", 400),
            ("DEADLINE_UNMET", 400),
            ("UNTRUSTED_ARTIFACT", 400),
            ("MISSING_TOKEN", 401),
            ("BAD_TOKEN", 401),
            ("FORBIDDEN", 403),
            ("NOT_FOUND", 404),
            ("CONFLICT", 409),
            ("MODEL_DEPRECATED", 409),
            ("PAYLOAD_TOO_LARGE", 413),
            ("ADMISSION_REJECT", 429),
            ("QUEUE_FULL_DROP_LRU", 429),
            ("INTERNAL", 500),
            ("WORKER_RESET", 502),
            ("POOL_UNREADY", 503),
            ("POOL_UNAVAILABLE", 503),
            ("REPLICA_EXHAUSTED", 503),
            ("DECODE_TIMEOUT", 504),
        ];
        let name = |code: &ErrorCode| serde_json::to_value(code).unwrap().as_str().unwrap().to_owned();
        let table: Vec<(String, u16)> = ErrorCode::ALL
            .iter()
            .map(|code| (name(code), code.http_status()))
            .collect();
        let expected: Vec<(String, u16)> = contract.map(|(name, status)| (name.to_owned(), status)).into();
        assert_eq!(table, expected);
    }

    #[test]
    fn absent_parts_are_left_out() {
        let body = serde_json::to_value(ErrorBody::new(ErrorCode::MissingToken, "no token")).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"code": "MISSING_TOKEN", "numeric_code": 40101, "message": "no token", "retriable": false})
        );
    }
}
