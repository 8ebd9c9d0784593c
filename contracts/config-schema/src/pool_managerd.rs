//! `[pool_managerd]`: one GPU box and its pools.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use api_types::{EngineKind, ModelId, ModelRef, NodeId, PoolId, Workload};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

use crate::bounded::{Count, Ms};
use crate::container::Container;
use crate::environment::node_id_from;
use crate::text::{BaseUrl, GpuUuid, ListenAddr, Sha256Text};

/// The daemon of a GPU box.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolManagerd {
    /// Where it listens. Default 127.0.0.1:9200; beyond loopback a token is required.
    pub addr: ListenAddr,
    /// The orchestrator it registers with. Default http://127.0.0.1:8080.
    pub orchestrator_url: BaseUrl,
    /// The URL the orchestrator reaches this daemon at, which also answers to its host. Default:
    /// `http://` and the bound address. Needed where `addr` is every address of the host and the
    /// orchestrator is on another one.
    pub advertise_url: Option<BaseUrl>,
    /// When the orchestrator reaches engines through this daemon instead of directly. Default `auto`.
    pub relay: RelayMode,
    /// The node's name. Default: the host name, every character but letters, digits, `.`, `_` and
    /// `-` replaced by `-`.
    pub node_id: NodeId,
    /// Path of the NVML library. Default: the one the dynamic linker finds.
    pub nvml_library: Option<PathBuf>,
    /// Where the daemon keeps what must survive its restart. Default: $STATE_DIRECTORY (set by the
    /// service manager), else $XDG_STATE_HOME/llama-orch, else $HOME/.local/state/llama-orch, else
    /// /var/lib/llama-orch.
    pub state_dir: PathBuf,
    /// Where this daemon marks GPUs as its own, so that no other one of this host starts engines on them. Default:
    /// /run/lock/llama-orch, or /tmp/llama-orch-locks where the former cannot be made.
    pub gpu_lock_dir: Option<PathBuf>,
    /// Whether engines go on serving when this daemon stops, for the next start to take them over. Default true; false
    /// ends them with the daemon.
    pub keep_engines: bool,
    /// How long an engine may be without this daemon before it ends itself, ms. Default 10 min: long enough for an
    /// upgrade, short enough not to hold GPU memory for nobody.
    pub adopt_within_ms: Ms<1_000, 600_000, 86_400_000>,
    /// Last output lines kept per replica. Default 200: a whole engine start at its usual verbosity.
    pub log_lines: Count<10, 200, 10_000>,
    /// Folders from which a reload may take models that no pool names; absolute paths. Default: none, so that a reload
    /// takes models of the configuration, and what lies in `models` below `state_dir`.
    pub model_dirs: Vec<PathBuf>,
    /// What is to be left of GPUs for other programs.
    pub gpus: Vec<Reservation>,
    /// The pools.
    pub pools: Vec<Pool>,
}

/// What is to be left of one GPU.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Its UUID.
    pub uuid: GpuUuid,
    /// No engine is started there that would leave less than this free, MiB.
    pub keep_free_mib: Count<0, 0, 1_048_576>,
}

impl Default for PoolManagerd {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9200)).into(),
            orchestrator_url: BaseUrl::http(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            advertise_url: None,
            relay: RelayMode::default(),
            node_id: node_id_from(""),
            nvml_library: None,
            state_dir: PathBuf::from("/var/lib/llama-orch"),
            gpu_lock_dir: None,
            keep_engines: true,
            adopt_within_ms: Ms::default(),
            log_lines: Count::default(),
            model_dirs: Vec::new(),
            gpus: Vec::new(),
            pools: Vec::new(),
        }
    }
}

/// When the orchestrator reaches this node's engines, which listen on loopback only, through its
/// pool-managerd. Their keys stay on the node then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RelayMode {
    /// When `orchestrator_url` is beyond loopback.
    #[default]
    Auto,
    /// Always: for an orchestrator that only seems to be on this host, behind a tunnel or in a
    /// container with a network of its own.
    Always,
}

/// One engine configuration on a set of GPUs. There is no setting that lets an engine compute on
/// the CPU.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The pool's name, unique in the file.
    pub id: PoolId,
    /// The engine.
    pub engine: EngineKind,
    /// What the engine loads, e.g. `file:/absolute/path/model.gguf`.
    pub model: ModelRef,
    /// The name clients use. Default: the last part of `model` without `.gguf`.
    #[schemars(with = "Option<ModelId>")]
    pub model_id: ModelId,
    /// More models that it can serve in place of `model`, one at a time: the orchestrator has one loaded when a task asks
    /// for it.
    #[serde(default)]
    pub models: Vec<PoolModel>,
    /// When the pool's model is loaded first: `start`, with the daemon, or `demand`, when a task asks for it. Default
    /// `start`.
    #[serde(default)]
    pub load_on: LoadOn,
    /// Unload the model when no task has asked for it for so long, ms. Default: never.
    #[serde(default)]
    pub idle_unload_ms: Option<Ms<100, 600_000, 604_800_000>>,
    /// Never unload the pool to make room for another one, nor for being idle. Default false.
    #[serde(default)]
    pub pinned: bool,
    /// Of idle pools on a GPU, those of lower priority make room first. Default 0.
    #[serde(default)]
    pub priority: Count<0, 0, 100>,
    /// What the pool serves: completion and chat (together or one of them), or embedding, or rerank. The engine is
    /// started for just that. Default: completion and chat.
    #[serde(default = "default_workloads")]
    pub workloads: Vec<Workload>,
    /// SHA-256 that the model file must have, 64 hexadecimal digits. No engine is started with another file.
    #[serde(default)]
    pub model_sha256: Option<Sha256Text>,
    /// UUIDs of the GPUs the engine may see; at least one.
    pub devices: Vec<GpuUuid>,
    /// Requests one replica works on at a time. Default 1: every slot costs its own KV cache.
    #[serde(default)]
    pub slots: Count<1, 1, 256>,
    /// Context per slot, tokens. Default 4096: fits beside a quantized 7 B model in 8 GiB.
    #[serde(default)]
    pub ctx: Count<256, 4_096, 16_777_216>,
    /// Engine processes. Default 1.
    #[serde(default)]
    pub replicas: Count<1, 1, 16>,
    /// The engine's program: an absolute path, or a bare name looked up in PATH. Default
    /// `llama-server`; not beside `container`.
    #[serde(default)]
    pub binary: Option<PathBuf>,
    /// The container that the engine runs in, instead of `binary`.
    #[serde(default)]
    pub container: Option<Container>,
    /// More arguments for the engine. Those that this daemon owns, or that would move work to the
    /// CPU, are refused.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment of the engine, beside the little that this daemon sets. Values are treated as
    /// secrets.
    #[serde(default, serialize_with = "masked")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub env: BTreeMap<String, SecretString>,
    /// Longest time from start to ready without a sign of progress, ms, beside one second for each 50 MB of the model file.
    /// Default 10 min.
    #[serde(default)]
    pub load_timeout_ms: Ms<100, 600_000, 7_200_000>,
    /// How often a running engine is asked for its health, ms. Default 1 s.
    #[serde(default)]
    pub health_interval_ms: Ms<20, 1_000, 60_000>,
    /// How often a serving engine has to show that it still generates, ms, and how long that may take. Default 30 s.
    #[serde(default)]
    pub watchdog_ms: Ms<100, 30_000, 3_600_000>,
    /// Time between the polite and the forced stop, ms. Default 10 s.
    #[serde(default)]
    pub stop_grace_ms: Ms<0, 10_000, 300_000>,
    /// Pauses between starts.
    #[serde(default)]
    pub restart: Restart,
}

/// When a pool's model is loaded first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadOn {
    /// With the daemon.
    #[default]
    Start,
    /// When a task asks for it.
    Demand,
}

/// One more model of a pool.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolModel {
    /// What the engine loads, as the pool's `model`.
    pub model: ModelRef,
    /// The name clients use. Default: the last part of `model` without `.gguf`.
    #[schemars(with = "Option<ModelId>")]
    pub model_id: ModelId,
    /// SHA-256 that the model file must have, 64 hexadecimal digits.
    #[serde(default)]
    pub model_sha256: Option<Sha256Text>,
}

fn default_workloads() -> Vec<Workload> {
    vec![Workload::Completion, Workload::Chat]
}

/// What starts the engines of a pool that names nothing.
const DEFAULT_BINARY: &str = "llama-server";

/// The one way in which a pool's engines are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher<'a> {
    /// A program of this machine: an absolute path or a bare name.
    Program(&'a Path),
    /// A container.
    Container(&'a Container),
}

impl Pool {
    /// How its engines are started; the check has seen to it that there is only one way.
    #[must_use]
    pub fn launcher(&self) -> Launcher<'_> {
        match &self.container {
            Some(container) => Launcher::Container(container),
            None => Launcher::Program(
                self.binary
                    .as_deref()
                    .unwrap_or_else(|| Path::new(DEFAULT_BINARY)),
            ),
        }
    }
}

fn masked<S: Serializer>(env: &BTreeMap<String, SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(env.keys().map(|name| (name, crate::dump::MASK)))
}

/// How often and how fast an engine is started again after it ended by itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// First pause, ms; doubles with every failure. Default 0.5 s.
    pub initial_ms: Ms<10, 500, 600_000>,
    /// Longest pause, ms. Default 1 min.
    pub max_ms: Ms<10, 60_000, 3_600_000>,
    /// Restarts allowed within the window; one more and the replica is failed until a person acts.
    /// Default 6.
    pub budget: Count<0, 6, 1_000>,
    /// The window, ms. Default 10 min.
    pub window_ms: Ms<1_000, 600_000, 86_400_000>,
}
