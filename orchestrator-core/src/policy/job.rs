//! What a task needs from a pool, after the request was parsed and its overrides were checked.

use api_types::{Determinism, EngineKind, ModelRef, PlacementOverrides, PoolId, Workload};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One task as placement sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// What the pool must be and what the request binds.
    pub needs: Requirements,
    /// Context the task needs, tokens: its prompt (counted, or estimated upwards) and the tokens
    /// it may generate.
    pub ctx_tokens: u32,
    /// The pool that served the task's session last, while its cache may still be warm. Absent
    /// without a session and for tasks that ask for a cold start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pool: Option<PoolId>,
}

/// What many tasks have in common: equal requirements and equal context are feasible on the same
/// pools.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Requirements {
    /// The model: a served name, or the reference a pool was configured with.
    pub model_ref: ModelRef,
    /// Only pools of this engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
    /// What the engine is asked to do.
    pub workload: Workload,
    /// Whether output must be reproducible.
    pub determinism: Determinism,
    /// The request's overrides, already allowed by policy (ORCH-3961).
    pub placement: PlacementOverrides,
}
