//! The link between the daemons: registration, heartbeats that carry the full state, and the
//! desired state in the reply. Levels, not deltas, so either side may restart at any time.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::ids::{NodeId, PoolId, ReplicaId};
use crate::pool::{DriverReport, GpuReport, PoolReport};

/// `POST /v1/workers/register` and `POST /v1/workers/{node_id}/heartbeat`: the same full state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeReport {
    /// The node.
    pub node_id: NodeId,
    /// Made anew at every start of pool-managerd; tells a restart from a late heartbeat.
    pub instance: Uuid,
    /// Counts reports of this instance; an older one is ignored.
    pub seq: u64,
    /// Base URL of pool-managerd, for logs and the relay.
    pub address: String,
    /// The version of pool-managerd.
    pub version: String,
    /// The driver, where NVML answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverReport>,
    /// Why NVML does not answer, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_error: Option<String>,
    /// The GPUs.
    pub gpus: Vec<GpuReport>,
    /// The pools.
    pub pools: Vec<PoolReport>,
}

/// The answer to a registration or heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DesiredState {
    /// How often the orchestrator wants to hear from the node, ms.
    pub heartbeat_interval_ms: u64,
    /// Without a heartbeat for this long, the node's pools take no new work, ms.
    pub stale_after_ms: u64,
    /// What each pool shall be. A pool not named here stays as configured.
    pub pools: Vec<DesiredPool>,
}

/// What one pool shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DesiredPool {
    /// The pool.
    pub pool_id: PoolId,
    /// Counts changes of the wish; an older one never undoes a newer one.
    pub generation: u64,
    /// Refuse new work.
    pub drain: bool,
}

/// One node as `GET /v1/nodes` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// The node.
    pub node_id: NodeId,
    /// Base URL of its pool-managerd.
    pub address: String,
    /// The version of its pool-managerd.
    pub version: String,
    /// Heard of lately.
    pub live: bool,
    /// Milliseconds since its last heartbeat.
    pub last_seen_ms: u64,
    /// The driver, where NVML answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<DriverReport>,
    /// Why NVML does not answer, where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_error: Option<String>,
    /// The GPUs.
    pub gpus: Vec<GpuReport>,
    /// Its pools, by id.
    pub pools: Vec<PoolId>,
}

/// The query of `GET /v1/pools/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EngineLogQuery {
    /// The replica.
    pub replica_id: ReplicaId,
    /// Which start of the replica; the latest one unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Most lines, the last ones; the daemon keeps a bounded number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Wait up to this many ms for the process to have ended, so that its last words are complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_exit_ms: Option<u64>,
}

/// `GET /v1/pools/{id}/logs`: the last lines an engine wrote, redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineLog {
    /// The pool.
    pub pool_id: PoolId,
    /// The replica.
    pub replica_id: ReplicaId,
    /// Which start of the replica the lines belong to.
    pub generation: u64,
    /// How that process ended, where it has (`exit code 1`, `signal 6 (SIGABRT)`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// Oldest first.
    pub lines: Vec<String>,
}
