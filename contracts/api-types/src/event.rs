//! Stream events. An enum, never a string kind; the SSE event name and the JSON data of each are
//! fixed by the HTTP contract.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::artifact::TranscriptRef;
use crate::error::ErrorBody;
use crate::ids::{CorrelationId, ModelId, PoolId, ReplicaId, TaskId};
use crate::model_ref::ModelRef;
use crate::result::TaskResult;
use crate::session::BudgetsRemaining;
use crate::task::EngineKind;

/// How a stream ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended, or a stop text was met.
    Stop,
    /// `max_tokens` or the context was used up.
    Length,
    /// A client cancelled, or went away.
    Canceled,
    /// The deadline passed.
    Deadline,
}

/// Where a live task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for a slot.
    Queued,
    /// The model is being loaded for it.
    Loading,
    /// The engine works on it (prefill or decode).
    Decoding,
}

/// First event of every stream, sent at once, while still queued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedEvent {
    /// The task.
    pub task_id: TaskId,
    /// Tasks ahead; 0 = next.
    pub queue_position: u32,
    /// ms from now, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// ms from now, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_end_ms: Option<u64>,
    /// The pool the policy would choose now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// The model asked for.
    pub model_ref: ModelRef,
    /// The sampling seed in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// The request's correlation id.
    pub correlation_id: CorrelationId,
}

/// What the text of a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// The answer.
    #[default]
    Text,
    /// What the model thinks before it answers, where the engine tells it apart.
    Reasoning,
    /// The engine's JSON of a tool call that the model asks for.
    ToolCall,
}

impl TokenKind {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Reasoning => "reasoning",
            Self::ToolCall => "tool_call",
        }
    }

    /// Whether it is the answer itself, which is not said on the wire.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }
}

/// One piece of output text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenEvent {
    /// The text; never a broken UTF-8 character.
    pub t: String,
    /// 0, 1, 2… without gap or repeat, whatever the kind.
    pub i: u64,
    /// Absent: the answer's text. Only chats have other kinds.
    #[serde(default, skip_serializing_if = "TokenKind::is_text")]
    pub kind: TokenKind,
}

impl TokenEvent {
    /// A token of the answer.
    #[must_use]
    pub fn text(i: u64, t: impl Into<String>) -> Self {
        Self {
            t: t.into(),
            i,
            kind: TokenKind::Text,
        }
    }
}

/// Live numbers of a task, at dispatch and then at a bounded cadence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsEvent {
    /// queued, loading or decoding.
    pub phase: Phase,
    /// Tasks ahead while queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// ms from now, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// ms from now, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_end_ms: Option<u64>,
    /// Tasks waiting in the whole queue.
    pub queue_depth: u32,
    /// 0 to 1; only with a deadline and once measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_time_probability: Option<f64>,
    /// Whether a cached prefix of the session was available.
    pub kv_warmth: bool,
    /// While loading: what of the model is on the GPUs already, bytes, as far as the driver tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_bytes: Option<u64>,
    /// While loading: what of it will be there at least, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_bytes: Option<u64>,
    /// The pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// The replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<ReplicaId>,
    /// The engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// The engine's build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// `sha256:…` of the model, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// What the session's budgets still allow.
    #[serde(flatten)]
    pub budgets: BudgetsRemaining,
}

/// One line of the task's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NarrationEvent {
    /// About 100 characters of plain English, present tense, no ids or secrets.
    pub human: String,
    /// Who acts, e.g. `orchestratord`.
    pub actor: String,
    /// What it does, e.g. `placement`.
    pub action: String,
}

/// Last event of a stream that ended without an error: the reproducibility receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndEvent {
    /// How it ended.
    pub finish_reason: FinishReason,
    /// Prompt tokens as the engine counted them; 0 when it never ran.
    pub tokens_in: u32,
    /// Generated tokens as the engine counted them.
    pub tokens_out: u32,
    /// Admission to slot, or to the end when it never got one, ms.
    pub queue_time_ms: u64,
    /// Slot to first token, ms; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// First token to last, ms.
    pub decode_time_ms: u64,
    /// Repeats `decode_time_ms` for old clients.
    pub decode_ms: u64,
    /// The engine that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// Its build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// `sha256:…` of the engine's binary or image, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_digest: Option<String>,
    /// The model that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelId>,
    /// `sha256:…` of the model, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// The sampler profile in effect, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler_profile_version: Option<String>,
    /// The sampling seed in effect.
    pub seed: u32,
    /// The pool that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// The replica that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<ReplicaId>,
    /// Whether the engine reused cached prompt tokens.
    pub kv_warmth: bool,
    /// Where the lasting record of the task is; absent where none is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<TranscriptRef>,
    /// The answer of a workload that writes no tokens. Shared, because it may be large and is handed on several times.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared")]
    #[schema(value_type = Option<TaskResult>)]
    pub result: Option<Arc<TaskResult>>,
}

/// A shared value on the wire: the value itself.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Arc<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<T>>, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map(Arc::new))
    }
}

/// After a crash, to a client that had seen more than survived: drop the tokens from `from` on, the
/// stream goes on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResyncEvent {
    /// The epoch of the ids that follow.
    pub epoch: u32,
    /// Index of the first token that is void.
    pub from: u64,
}

/// One event of `GET /v1/tasks/{id}/stream`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", content = "data", rename_all = "snake_case")]
pub enum TaskEvent {
    /// First, once.
    Started(StartedEvent),
    /// Output, in order.
    Token(TokenEvent),
    /// Live numbers.
    Metrics(MetricsEvent),
    /// The story.
    Narration(NarrationEvent),
    /// Last, or
    End(Box<EndEvent>),
    /// last.
    Error(Box<ErrorBody>),
    /// Go back: only after a crash.
    Resync(ResyncEvent),
}

impl TaskEvent {
    /// The SSE event name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started(_) => "started",
            Self::Token(_) => "token",
            Self::Metrics(_) => "metrics",
            Self::Narration(_) => "narration",
            Self::End(_) => "end",
            Self::Error(_) => "error",
            Self::Resync(_) => "resync",
        }
    }

    /// Parses one SSE event by its name and data.
    ///
    /// # Errors
    /// The JSON error, or `None` as the whole when the name is not one of ours (clients skip those).
    pub fn parse(name: &str, data: &str) -> Option<Result<Self, serde_json::Error>> {
        Some(match name {
            "started" => serde_json::from_str(data).map(Self::Started),
            "token" => serde_json::from_str(data).map(Self::Token),
            "metrics" => serde_json::from_str(data).map(Self::Metrics),
            "narration" => serde_json::from_str(data).map(Self::Narration),
            "end" => serde_json::from_str(data).map(Self::End),
            "error" => serde_json::from_str(data).map(Self::Error),
            "resync" => serde_json::from_str(data).map(Self::Resync),
            _ => return None,
        })
    }

    /// Whether nothing may follow.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self, Self::End(_) | Self::Error(_))
    }
}
