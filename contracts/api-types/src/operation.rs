//! Operations on pools: what shall become of one, and how far that is. An operation is a level, not a command: the
//! orchestrator repeats the latest one in every answer to the node until the node has recorded it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::ids::{ModelId, PoolId};
use crate::model_ref::ModelRef;

/// Longest time that running tasks may be given by an operation, ms.
pub const MAX_OPERATION_DEADLINE_MS: u64 = 86_400_000;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Takes no new work, lets running tasks finish, stops the engines. Lasts until a load.
    Drain,
    /// Serves another model in place of the present one, or goes on with the present one where that fails.
    Reload,
    /// Serves a model: the named one, else the one that was served last. Ends a drain.
    Load,
    /// Stops the engines; the next task that asks for a model of the pool loads it again.
    Unload,
}

impl OperationKind {
    /// The wire name; also the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Reload => "reload",
            Self::Load => "load",
            Self::Unload => "unload",
        }
    }
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Under way.
    Running,
    /// The pool is what was asked for.
    Succeeded,
    /// The pool is what it was before.
    Failed,
}

/// What an operation is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationPhase {
    /// Nothing is to be done.
    Steady,
    /// The new model is looked at: its file, its digest, the room for it.
    Checking,
    /// Engines load the model; nothing was served before.
    Loading,
    /// Engines load the new model while the old one goes on serving.
    Beside,
    /// No new work is taken; running tasks finish, until the deadline.
    Draining,
    /// The engines end.
    Stopping,
    /// Engines load the new model where the old one was.
    Swapping,
    /// The new model has failed; its engines end.
    Clearing,
    /// The old model is loaded again.
    Restoring,
}

/// A model by its reference, and the name under which clients shall find it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ModelChoice {
    /// Where the model is.
    pub model_ref: ModelRef,
    /// The name clients use.
    pub model_id: ModelId,
}

/// What a pool shall be: the latest operation on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DesiredPool {
    /// The pool.
    pub pool_id: PoolId,
    /// Counts operations on the pool; an older one never undoes a newer one.
    pub generation: u64,
    /// The operation.
    pub operation_id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// The model to serve. Absent: where one is served, the one that was served last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
    /// How long running tasks may go on where their engine has to end, ms.
    pub deadline_ms: u64,
}

/// How the latest operation on a pool stands, as its node tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationStatus {
    /// The operation.
    pub operation_id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// How it stands.
    pub state: OperationState,
    /// What it is at.
    pub phase: OperationPhase,
    /// The model that it loads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<ModelRef>,
    /// Why it failed, or why it takes a longer way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/pools/{id}/drain` and `…/unload`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// How long running tasks may go on, ms: 0 to 86 400 000, default 60 000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// `POST /v1/pools/{id}/load`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadRequest {
    /// Which of the pool's models, by its reference or its served name. Default: the one that was served last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<ModelRef>,
    /// How long running tasks may go on where their engine has to make room, ms: 0 to 86 400 000, default 60 000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// `POST /v1/pools/{id}/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadRequest {
    /// The model to serve. The node takes files of its `model_dirs` and what its configuration names.
    pub new_model_ref: ModelRef,
    /// The name clients shall use for it. Default: the configured name of that model, else the last part of the
    /// reference without `.gguf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelId>,
    /// How long running tasks of the old model may go on, ms: 0 to 86 400 000, default 60 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// The answer to an operation: the node has recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationAccepted {
    /// The pool.
    pub pool_id: PoolId,
    /// The operation; `GET /v1/pools/{id}/health` shows it as `last_operation`.
    pub operation_id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// Where to look.
    pub health_url: String,
}
