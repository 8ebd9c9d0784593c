//! What a pool is and how it fares, as the daemons tell each other and the API tells clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{EngineId, ModelId, NodeId, PoolId, ReplicaId};
use crate::model_ref::ModelRef;
use crate::operation::OperationStatus;
use crate::task::{EngineKind, Workload};

/// Whether a GPU can be worked with, by what its driver has reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GpuCondition {
    /// Nothing speaks against it.
    #[default]
    Healthy,
    /// It is as hot as it may get: what runs goes on, nothing new is placed there until it has cooled.
    TooHot,
    /// What runs may finish; nothing new is placed there. It needs a reset.
    NeedsReset,
    /// Nothing runs there any more. It needs a reset or a reboot.
    Unusable,
}

/// Why a GPU runs slower than it could. It shows in the speed that is measured of its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GpuThrottle {
    /// The driver keeps it within its power limit.
    PowerCap,
    /// The driver keeps it within its temperature limit.
    SwThermal,
    /// The card itself has halved its clocks, or worse, for its temperature.
    HwThermal,
    /// The power supply has told it to slow down.
    PowerBrake,
    /// The card itself slows down for its temperature, power or voltage.
    HwSlowdown,
}

/// A program that holds memory on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GpuProcess {
    /// Its process id.
    pub pid: u32,
    /// Bytes it holds; absent where the driver does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// The pool whose engine it is; absent for another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<PoolId>,
    /// The replica whose engine it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_id: Option<ReplicaId>,
}

/// One GPU as NVML shows it. Values NVML does not support on a card are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuReport {
    /// `GPU-…`; the identity of the card.
    pub uuid: String,
    /// NVML index; may change across boots.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// `major.minor`.
    pub compute_capability: String,
    /// Bytes.
    pub memory_total_bytes: u64,
    /// Bytes free now, whoever uses the rest.
    pub memory_free_bytes: u64,
    /// Bytes used now by all processes.
    pub memory_used_bytes: u64,
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<u32>,
    /// °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<u32>,
    /// From where on the card slows itself down, °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown_c: Option<u32>,
    /// Why it runs slower than it could.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttled: Vec<GpuThrottle>,
    /// Milliwatts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_mw: Option<u32>,
    /// Memory errors corrected since the driver was loaded; absent without ECC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc_corrected: Option<u64>,
    /// Memory errors that could not be corrected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc_uncorrected: Option<u64>,
    /// Whether it can be worked with.
    #[serde(default)]
    pub condition: GpuCondition,
    /// What speaks against it; absent while it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition_reason: Option<String>,
    /// The last Xid error that the driver has reported since the daemon's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_xid: Option<u64>,
    /// Bytes that the configuration keeps free of engines.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserved_bytes: u64,
    /// Bytes used by other programs than this node's engines.
    #[serde(default)]
    pub used_by_others_bytes: u64,
    /// The programs that hold memory there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<GpuProcess>,
    /// UUIDs of the instances it is split into (MIG).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// The NVIDIA driver of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriverReport {
    /// Kernel driver version.
    pub driver_version: String,
    /// Highest CUDA version the driver supports, `major.minor`.
    pub cuda_version: String,
}

/// Where a replica (one engine process) is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Checked before a start: devices, model file, engine binary.
    Preflight,
    /// The process runs, the engine does not answer yet.
    Starting,
    /// The engine answers that it loads the model.
    Loading,
    /// Health passed; takes work.
    Ready,
    /// Takes no new work.
    Draining,
    /// Waits before the next start.
    Backoff,
    /// Stopped on purpose.
    Stopped,
    /// The restart budget is used up, or a start can never succeed.
    Failed,
}

impl ReplicaState {
    /// The wire name; also the metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Why a pool or replica is not ready. A closed set: clients and metrics match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnreadyCause {
    /// NVML or the driver does not answer.
    DriverUnavailable,
    /// A device of the mask is not there.
    DeviceMissing,
    /// The model file is not there or not readable, or could not be fetched.
    ModelMissing,
    /// The model is being fetched.
    ModelFetching,
    /// The engine's binary or image is not there, or cannot be executed.
    EngineMissing,
    /// The engine's image is being fetched.
    EnginePulling,
    /// No container runtime can run the engine: it is missing, hangs, or cannot give a container its GPUs.
    ContainerRuntimeUnavailable,
    /// The process has started, the model is loading.
    Loading,
    /// The engine did not become healthy within its load deadline.
    LoadTimeout,
    /// A device of the mask is as hot as it may get: what runs goes on, nothing new is placed there until it has cooled.
    GpuTooHot,
    /// A device of the mask has reported errors: what runs may finish, nothing new is placed there.
    GpuNeedsReset,
    /// A device of the mask does no work any more.
    GpuUnusable,
    /// The engine's process does not hold the model on exactly the GPUs of its mask.
    EngineNotOnGpu,
    /// Other programs leave too little GPU memory for the model.
    VramInsufficient,
    /// The engine answers health but does not generate.
    EngineStalled,
    /// The engine ran out of GPU memory.
    VramOom,
    /// The engine was killed for host memory.
    HostOom,
    /// The driver or the GPU failed under the engine.
    GpuError,
    /// The engine's port was taken.
    PortTaken,
    /// The engine refused the model file.
    BadModel,
    /// The engine ended for another reason.
    EngineExited,
    /// The engine stopped answering health.
    EngineUnhealthy,
    /// Another start is due after a pause.
    RestartBackoff,
    /// Too many restarts; needs a person.
    RestartBudgetExhausted,
    /// On purpose.
    Draining,
    /// On purpose.
    Stopped,
    /// The node has not been heard of for too long.
    NodeStale,
}

/// Measured speed of a pool; absent until measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PerfHints {
    /// Prefill speed, tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_tps: Option<f64>,
    /// Decode speed of one slot, tokens per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_tps: Option<f64>,
}

/// One engine process as its pool-managerd sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaReport {
    /// The replica.
    pub replica_id: ReplicaId,
    /// Where it is in its life.
    pub state: ReplicaState,
    /// Counts starts of this replica; a new process has a new generation.
    pub generation: u64,
    /// Base URL of the engine on its node (loopback); absent while there is no process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The engine's own API key for this generation. Only ever sent between the daemons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    pub endpoint_key: Option<String>,
    /// Slots the engine reports; absent before it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_total: Option<u32>,
    /// Context per slot the engine reports, tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx_per_slot: Option<u32>,
    /// The engine's build as it reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Since its process was started, ms; only while it is on its way to ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms_ago: Option<u64>,
    /// From the start of its process until it was ready, ms; only while it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
    /// Process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Bytes its processes hold on the GPUs now; absent while there is no process, or where the driver does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory_bytes: Option<u64>,
    /// Starts after the first in the current budget window.
    pub restarts: u32,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<UnreadyCause>,
    /// The engine's last error lines, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A model on its way to a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelFetch {
    /// What is there already, bytes.
    pub bytes: u64,
    /// What will be there, bytes; absent while its source has not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Until it is there at the present rate, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
}

/// A model that a pool can serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolModel {
    /// The name clients use.
    pub model_id: ModelId,
    /// Where it is.
    pub model_ref: ModelRef,
    /// Size of its file, bytes; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// What of it has to be on GPUs at least, bytes, where its header tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bytes: Option<u64>,
    /// How far it is, while it is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<ModelFetch>,
    /// Why its last load has failed, while that is not long ago: no task's wish loads it, an operation does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_failed: Option<String>,
}

/// When what a pool has loaded makes room for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Residency {
    /// Unloaded after so long without a task, ms; absent: never for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_unload_ms: Option<u64>,
    /// Never unloaded for another pool's sake, or for being idle.
    pub pinned: bool,
    /// Of pools that could make room, the one with the lowest does.
    pub priority: u32,
}

/// One pool as its pool-managerd sees it: always the full state, never a delta.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolReport {
    /// The pool.
    pub pool_id: PoolId,
    /// Its engine.
    pub engine: EngineKind,
    /// The engine catalog's entry, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_catalog_id: Option<EngineId>,
    /// `sha256:…` of the engine's binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_digest: Option<String>,
    /// The name clients use for the model.
    pub model_id: ModelId,
    /// What the pool was configured with.
    pub model_ref: ModelRef,
    /// `sha256:…` of the model file, once computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// Size of the model file, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_bytes: Option<u64>,
    /// Context per slot, tokens: what the engine reports, else what is configured.
    pub ctx_max: u32,
    /// GPU UUIDs the engine may see.
    pub device_mask: Vec<String>,
    /// What the engine can do.
    pub supported_workloads: Vec<Workload>,
    /// Whether the engine runs with settings that make output reproducible.
    pub deterministic: bool,
    /// Counts changes of what the pool serves.
    pub generation: u64,
    /// Whether new work is refused on purpose.
    pub draining: bool,
    /// Nothing is loaded, and a task that asks for one of `models` has it loaded.
    #[serde(default)]
    pub unloaded: bool,
    /// What it can serve: what it serves now or served last comes first.
    #[serde(default)]
    pub models: Vec<PoolModel>,
    /// When what is loaded makes room for others.
    #[serde(default)]
    pub residency: Residency,
    /// The latest operation of the orchestrator that the node has recorded; 0 before the first.
    #[serde(default)]
    pub operation_generation: u64,
    /// How the latest operation stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationStatus>,
    /// Its engine processes.
    pub replicas: Vec<ReplicaReport>,
    /// Why no replica is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<UnreadyCause>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl PoolReport {
    /// The listed model that a request means.
    #[must_use]
    pub fn listed(&self, wanted: &ModelRef) -> Option<&PoolModel> {
        self.models
            .iter()
            .find(|model| wanted.means(&model.model_id, &model.model_ref))
    }

    /// The models that it would have to load first, and may for the sake of a task.
    pub fn loadable(&self) -> impl Iterator<Item = &PoolModel> {
        let absent = |model: &&PoolModel| self.unloaded || model.model_id != self.model_id;
        self.models
            .iter()
            .filter(absent)
            .filter(|model| model.load_failed.is_none())
    }

    /// Whether at least one replica takes work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.draining && self.replicas.iter().any(|r| r.state == ReplicaState::Ready)
    }
}

/// One pool as `GET /v1/pools` of the orchestrator shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolStatus {
    /// The pool.
    pub pool_id: PoolId,
    /// The node it runs on.
    pub node_id: NodeId,
    /// Its engine.
    pub engine: EngineKind,
    /// The engine's build, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The name clients use for the model.
    pub model_id: ModelId,
    /// What the pool was configured with.
    pub model_ref: ModelRef,
    /// `sha256:…` of the model file, once computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_digest: Option<String>,
    /// Context per slot, tokens.
    pub ctx_max: u32,
    /// GPU UUIDs.
    pub device_mask: Vec<String>,
    /// Slots of its ready replicas.
    pub slots_total: u32,
    /// Slots without a lease.
    pub slots_free: u32,
    /// Measured speed.
    pub perf: PerfHints,
    /// Liveness, readiness and why.
    pub health: PoolHealth,
    /// Its engine processes.
    pub replicas: Vec<ReplicaReport>,
}

/// `GET /v1/pools/{id}/health`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PoolHealth {
    /// The node was heard of lately.
    pub live: bool,
    /// New work may be placed here.
    pub ready: bool,
    /// New work is refused on purpose.
    pub draining: bool,
    /// Counts changes of what the pool serves.
    pub generation: u64,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<UnreadyCause>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The engine's last error lines, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The latest operation on it: drain, reload, load or unload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_operation: Option<OperationStatus>,
    /// Live numbers.
    pub metrics: PoolMetrics,
}

/// Live numbers of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolMetrics {
    /// Slots of its ready replicas.
    pub slots_total: u32,
    /// Slots without a lease.
    pub slots_free: u32,
    /// Tasks running.
    pub active_leases: u32,
    /// Restarts of its engines since the node's daemon started.
    pub restarts: u32,
}
