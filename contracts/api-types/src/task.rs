//! `TaskRequest` and what the API answers about a task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::ErrorBody;
use crate::event::FinishReason;
use crate::ids::{CorrelationId, PoolId, ReplicaId, SessionId, TaskId};
use crate::model_ref::ModelRef;
use crate::placement::PlacementOverrides;
use crate::session::BudgetsRemaining;

macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The wire name; also the metric label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} is not one of {}", [$($text),+].join(", "))),
                }
            }
        }
    };
}
pub(crate) use closed_set;

closed_set!(
    /// The engines an adapter exists for.
    EngineKind {
        /// llama.cpp's HTTP server.
        Llamacpp = "llamacpp",
        /// vLLM.
        Vllm = "vllm",
        /// Text Generation Inference.
        Tgi = "tgi",
        /// Triton Inference Server.
        Triton = "triton",
        /// Any server with the OpenAI API.
        Openai = "openai",
    }
);

closed_set!(
    /// What a task asks the engine to do.
    #[derive(Default)]
    Workload {
        /// Continue `prompt`.
        #[default]
        Completion = "completion",
        /// Answer `messages`.
        Chat = "chat",
        /// Embed `inputs`.
        Embedding = "embedding",
        /// Score `inputs` against `query`.
        Rerank = "rerank",
    }
);

closed_set!(
    /// Scheduling class. Interactive goes before batch, within the batch wait bound.
    #[derive(Default)]
    Priority {
        /// A person waits.
        #[default]
        Interactive = "interactive",
        /// Nobody waits.
        Batch = "batch",
    }
);

closed_set!(
    /// How much reproducibility the client asks for.
    #[derive(Default)]
    Determinism {
        /// Same seed, best effort.
        #[default]
        BestEffort = "best_effort",
        /// Only a pool that can promise byte-exact repeats.
        Strict = "strict",
    }
);

closed_set!(
    /// Whether the engine may reuse a cached prefix.
    #[derive(Default)]
    KvHint {
        /// Reuse what is there.
        #[default]
        Reuse = "reuse",
        /// Compute the whole prompt.
        Cold = "cold",
    }
);

closed_set!(
    /// Where a task is in its life. The last six are terminal.
    TaskState {
        /// Admitted, waiting for a slot.
        Queued = "queued",
        /// Holds a slot.
        Running = "running",
        /// Ended by itself (stop or length).
        Completed = "completed",
        /// Ended by an error.
        Failed = "failed",
        /// Ended by a client.
        Canceled = "canceled",
        /// Ended by its deadline.
        Expired = "expired",
        /// Dropped from a full queue.
        Evicted = "evicted",
        /// Cut off by a restart of the orchestrator and not taken up again; its text so far is kept.
        Interrupted = "interrupted",
    }
);

impl TaskState {
    /// Whether nothing can change any more.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// A hint about the shape of the output; unknown values are ignored by contract.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(transparent)]
#[schema(value_type = String, examples("text", "json", "edits"))]
pub struct OutputMode(pub String);

closed_set!(
    /// Who speaks in a chat.
    Role {
        /// The application, to the model.
        System = "system",
        /// The person.
        User = "user",
        /// The model.
        Assistant = "assistant",
        /// A tool that the model has asked for.
        Tool = "tool",
    }
);

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

/// Sampling parameters; absent ones take the engine's documented default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// 0 (greedy) to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// 0 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Above 0 up to 2; 1 = off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    /// −2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// −2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Up to 16 texts of up to 256 bytes that end the output; never part of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// `POST /v1/tasks`. Any field not named here is refused by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// The model: catalog id, served name, or a reference a pool was configured with.
    pub model_ref: ModelRef,
    /// completion unless said otherwise.
    #[serde(default)]
    pub workload: Workload,
    /// The text to continue (`workload: completion`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The conversation (`workload: chat`): 1 to 1024 messages with at most 1048576 bytes of text in all. The model's own
    /// template turns it into a prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// The texts to embed or rank (`workload: embedding` or `rerank`): 1 to 2048, none empty, at most 1048576 bytes in
    /// all, `query` included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    /// What `inputs` are ranked against (`workload: rerank`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The client's own id for the task; the same id with the same body is the same task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// The conversation whose KV cache may be reused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Only pools of this engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// Context the task needs, tokens (prompt and output together).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<u32>,
    /// Most tokens to generate. Like `expected_tokens`, `seed`, `sampler_profile_version` and `sampling`, for workloads
    /// that generate: completion and chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// interactive unless said otherwise.
    #[serde(default)]
    pub priority: Priority,
    /// The task must have ended this many ms after admission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// How many tokens the client expects; improves the estimate, limits nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
    /// Sampling seed, 0 to 4294967294. Derived from the task id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// best_effort unless said otherwise.
    #[serde(default)]
    pub determinism: Determinism,
    /// The sampler profile a reproduction must use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler_profile_version: Option<String>,
    /// Sampling parameters.
    #[serde(default)]
    pub sampling: Sampling,
    /// reuse unless said otherwise.
    #[serde(default)]
    pub kv_hint: KvHint,
    /// A hint; unknown values are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_mode: Option<OutputMode>,
    /// Placement overrides (ORCH-3980).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementOverrides>,
}

/// The 202 answer to `POST /v1/tasks`. Times are ms from now; absent when nothing measured
/// supports them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskReceipt {
    /// The task.
    pub task_id: TaskId,
    /// Tasks ahead; 0 = next.
    pub queue_position: u32,
    /// When it will get a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// When it will have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_end_ms: Option<u64>,
    /// How long to wait before sending more; 0 while the queue has room.
    pub backoff_ms: u64,
    /// The pool the policy would choose now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// Where the stream is.
    pub stream_url: String,
    /// What the session's budgets still allow after this task's reservation.
    #[serde(flatten)]
    pub budgets: BudgetsRemaining,
}

impl Workload {
    /// Whether the engine writes tokens; else the answer is in `end.result` as a whole.
    #[must_use]
    pub const fn generates(self) -> bool {
        matches!(self, Self::Completion | Self::Chat)
    }
}

impl TaskRequest {
    /// Bytes of everything the engine shall read.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let messages = self
            .messages
            .iter()
            .flatten()
            .map(|message| message.content.len());
        let inputs = self.inputs.iter().flatten().map(String::len);
        len(&self.prompt) + len(&self.query) + messages.chain(inputs).sum::<usize>()
    }
}

/// Tokens counted by the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Generated tokens.
    pub tokens_out: u32,
}

/// Where the time of a task went, ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Admission to slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_time_ms: Option<u64>,
    /// Slot to first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// First token to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_time_ms: Option<u64>,
}

/// `GET /v1/tasks/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskStatus {
    /// The task.
    pub task_id: TaskId,
    /// Where it is in its life.
    pub state: TaskState,
    /// Its class.
    pub priority: Priority,
    /// The model asked for.
    pub model_ref: ModelRef,
    /// The session, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// Tasks ahead while queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<u32>,
    /// ms from now, while queued and known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_start_ms: Option<u64>,
    /// ms from now, while not terminal and known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_end_ms: Option<u64>,
    /// The chance to end before the deadline, 0 to 1; while not terminal and known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_time_probability: Option<f64>,
    /// The pool that runs or ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// The replica that runs or ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<ReplicaId>,
    /// The sampling seed in effect.
    pub seed: u32,
    /// Tokens so far.
    pub usage: Usage,
    /// Times so far.
    pub timings: Timings,
    /// How it ended, where it ended without an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// The error it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// The request's correlation id.
    pub correlation_id: CorrelationId,
    /// Where the stream is.
    pub stream_url: String,
}
