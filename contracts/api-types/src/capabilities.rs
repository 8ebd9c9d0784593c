//! `GET /v1/capabilities`: what can be asked for right now, from live state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{ModelId, NodeId, PoolId};
use crate::task::{EngineKind, Workload};

/// The version of the HTTP contract, `major.minor.patch`.
pub const API_VERSION: &str = "1.0.0";

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capabilities {
    /// [`API_VERSION`].
    pub api_version: String,
    /// Pools that are ready.
    pub pools: Vec<PoolCapability>,
    /// Engines with at least one ready pool.
    pub engines: Vec<EngineCapability>,
}

/// What one pool can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolCapability {
    /// The pool.
    pub pool_id: PoolId,
    /// Its node.
    pub node_id: NodeId,
    /// Its engine.
    pub engine: EngineKind,
    /// The engine's build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The model it serves, or served last.
    pub model_id: ModelId,
    /// The models that it loads when a task asks for them; `model_id` among them while nothing is loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loadable_models: Vec<ModelId>,
    /// Context per slot, tokens.
    pub ctx_max: u32,
    /// Most tokens one task may generate, where limited below the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens_out: Option<u32>,
    /// Slots of its ready replicas.
    pub slots_total: u32,
    /// What it can be asked to do.
    pub supported_workloads: Vec<Workload>,
    /// Optional abilities, e.g. `seed`, `stop`, `kv_reuse`.
    pub features: Vec<String>,
    /// Limits per identity, where configured.
    pub rate_limits: Vec<RateLimit>,
    /// Whether it promises byte-exact repeats.
    pub deterministic: bool,
}

/// A limit per identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RateLimit {
    /// Requests.
    pub requests: u32,
    /// Per this many ms.
    pub per_ms: u64,
}

/// One engine and the builds that serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineCapability {
    /// The engine.
    pub engine: EngineKind,
    /// Distinct builds among ready pools, sorted.
    pub engine_versions: Vec<String>,
}
