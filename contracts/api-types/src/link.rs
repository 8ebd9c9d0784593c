//! The link between the daemons: registration, heartbeats that carry the full state, and the
//! desired state in the reply. Levels, not deltas, so either side may restart at any time. How an
//! orchestrator on another host reaches a node's engines: through the node's relay.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::ids::{NodeId, PoolId, ReplicaId};
use crate::operation::DesiredPool;
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
    /// The node's engines are reached through its relay: their `endpoint` is the relay's, and their
    /// keys stay on the node.
    #[serde(default)]
    pub relay: bool,
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
    /// The operations that the node has not recorded yet. A pool not named here stays as it is.
    pub pools: Vec<DesiredPool>,
    /// The tasks that run on the node after this very report was taken in: on a replica that the report shows as taking
    /// no new work they can only become fewer.
    #[serde(default)]
    pub leases: Vec<ReplicaLeases>,
}

/// Tasks that run on one replica, as the orchestrator counts them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaLeases {
    /// The pool.
    pub pool_id: PoolId,
    /// The replica.
    pub replica_id: ReplicaId,
    /// Tasks; never 0.
    pub leases: u32,
}

/// One node as `GET /v1/nodes` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// The node.
    pub node_id: NodeId,
    /// Base URL of its pool-managerd.
    pub address: String,
    /// Its engines are reached through its relay.
    #[serde(default)]
    pub relay: bool,
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
    /// Go on with every line that follows, as plain text, until the process has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Wait up to this many ms for the process to have ended, so that its last words are complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_exit_ms: Option<u64>,
}

/// The query of `GET /v1/pools/{id}/logs` of the orchestrator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PoolLogQuery {
    /// The replica; the pool's first unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<ReplicaId>,
    /// Which start of the replica; the latest one unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Most lines, the last ones; the node keeps a bounded number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Go on with every line that follows, as plain text, until the process has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
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

/// The request header that tells a relay which start of an engine is meant (see [`EngineStart`]).
pub const ENGINE_START_HEADER: &str = "x-engine-start";

/// One start of one replica's engine, as its node counts them. A relay passes a request on to exactly
/// this start or refuses it, so that no stream lands on a newer engine than the one its sender knows.
/// Written `<instance>.<generation>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineStart {
    /// The run of pool-managerd that counts: another run may count anew.
    pub instance: Uuid,
    /// The replica's generation.
    pub generation: u64,
}

/// A text that names no start of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be INSTANCE.GENERATION: the UUID and the number of the node's report")]
pub struct NoEngineStart;

impl fmt::Display for EngineStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.instance, self.generation)
    }
}

impl FromStr for EngineStart {
    type Err = NoEngineStart;

    fn from_str(text: &str) -> Result<Self, NoEngineStart> {
        let (instance, generation) = text.split_once('.').ok_or(NoEngineStart)?;
        // A sign would be a second spelling of the same number.
        let digits = generation.bytes().all(|byte| byte.is_ascii_digit());
        let generation = generation.parse().ok().filter(|_| digits);
        Ok(Self {
            instance: Uuid::parse_str(instance).map_err(|_| NoEngineStart)?,
            generation: generation.ok_or(NoEngineStart)?,
        })
    }
}

/// Base URL of a replica's engine behind the relay of the pool-managerd at `address`. Ids need no
/// escaping.
#[must_use]
pub fn relay_url(address: &str, pool: &PoolId, replica: &ReplicaId) -> String {
    format!("{}/v1/relay/{pool}/{replica}", address.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_of_an_engine_reads_as_it_is_written() {
        let start = EngineStart {
            instance: Uuid::from_u128(7),
            generation: 12,
        };
        assert_eq!(start.to_string().parse(), Ok(start));
        for bad in [
            "",
            "12",
            ".12",
            "x.12",
            "00000000-0000-0000-0000-000000000007",
            "00000000-0000-0000-0000-000000000007.",
            "00000000-0000-0000-0000-000000000007.+1",
            "00000000-0000-0000-0000-000000000007.1.2",
        ] {
            assert_eq!(bad.parse::<EngineStart>(), Err(NoEngineStart), "{bad}");
        }
    }

    #[test]
    fn a_relay_lies_below_its_address() {
        let (pool, replica) = ("p".parse().unwrap(), "r0".parse().unwrap());
        for address in ["http://10.0.0.5:9200", "http://10.0.0.5:9200/"] {
            assert_eq!(
                relay_url(address, &pool, &replica),
                "http://10.0.0.5:9200/v1/relay/p/r0"
            );
        }
    }
}
