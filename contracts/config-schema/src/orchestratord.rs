//! `[orchestratord]`: queue, streams, node link, engine calls and placement gates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifacts::Artifacts;
use crate::bounded::{Count, Ms};
use crate::sessions::{RateLimit, Sessions};
use crate::text::ListenAddr;

/// The orchestrator.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Orchestratord {
    /// Where it listens. Default 127.0.0.1:8080; beyond loopback a token is required.
    pub addr: ListenAddr,
    /// Whether a task ends when its last reader goes away. Default: yes, nobody pays for unread tokens.
    pub cancel_on_disconnect: bool,
    /// How long a reader that went away may take to come back before its task is cancelled, ms.
    /// Default 0: at once.
    pub disconnect_grace_ms: Ms<0, 0, 600_000>,
    /// The queue.
    pub queue: Queue,
    /// Token streams.
    pub sse: Sse,
    /// The link to pool-managerd.
    pub nodes: Nodes,
    /// Calls to engines.
    pub engine: Engine,
    /// What a request may say about its placement.
    pub placement: Placement,
    /// Sessions and their budgets.
    pub sessions: Sessions,
    /// How many tasks one identity may submit.
    pub rate_limit: RateLimit,
    /// What survives a crash of the daemon or of the machine. Default `process`.
    pub durability: Durability,
    /// What becomes of a task that was running when the daemon went down. Default `resume`.
    pub interrupted: Interrupted,
    /// Where the daemon keeps what must survive its restart, in a folder `orchestratord` of its own.
    /// Default: $STATE_DIRECTORY (set by the service manager), else $XDG_STATE_HOME/llama-orch, else
    /// $HOME/.local/state/llama-orch, else /var/lib/llama-orch.
    pub state_dir: PathBuf,
    /// Bounds of what is kept there.
    pub journal: Journal,
    /// What clients store, and the traces of tasks.
    pub artifacts: Artifacts,
}

impl Default for Orchestratord {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)).into(),
            cancel_on_disconnect: true,
            disconnect_grace_ms: Ms::default(),
            queue: Queue::default(),
            sse: Sse::default(),
            nodes: Nodes::default(),
            engine: Engine::default(),
            placement: Placement::default(),
            sessions: Sessions::default(),
            rate_limit: RateLimit::default(),
            durability: Durability::default(),
            interrupted: Interrupted::default(),
            state_dir: PathBuf::from("/var/lib/llama-orch"),
            journal: Journal::default(),
            artifacts: Artifacts::default(),
        }
    }
}

/// What survives. A task is acknowledged (202) only after what its mode promises holds for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Acknowledged tasks and every token that a reader was given survive a power cut: tokens are
    /// synced to the disk before they are handed out, which costs up to a few ms a token.
    Strict,
    /// Acknowledged tasks survive a power cut; tokens survive a crash of the daemon completely and a
    /// power cut up to the last second, which a resumed stream announces (`resync`). The default:
    /// people expect an accepted task to survive a restart, and this costs nothing on the token path
    /// but one buffered write.
    #[default]
    Process,
    /// Nothing survives; nothing is written and no state directory is used.
    Off,
}

/// What becomes of a task that had already produced text when the daemon went down. One that had
/// not waits again in its old place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interrupted {
    /// It goes on after the text so far, where the engine can; with `determinism: strict` it is
    /// replayed. Else it ends as `interrupted` with the text kept.
    #[default]
    Resume,
    /// It is generated again on the same engine and model with the same seed, and goes on once the
    /// text so far has come out unchanged; where that is not possible it ends as `interrupted`.
    Replay,
    /// It ends as `interrupted` with the text kept.
    Interrupt,
}

/// Bounds of the journal and the transcripts.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Longest wait of an admission for the disk, ms; then it is refused with 503. Default 2 s: far
    /// above any sync of a disk that works.
    pub max_lag_ms: Ms<50, 2_000, 60_000>,
    /// Room on the disk that admissions leave for finishing what was admitted, MiB. Default 16.
    pub reserve_mib: Count<0, 16, 1_048_576>,
    /// Most transcripts kept, MiB; the oldest are dropped first. Default 256.
    pub transcripts_mib: Count<1, 256, 1_048_576>,
}

/// The bounded queue of admitted tasks.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Most waiting tasks, all priorities together. Default 256: with the largest bodies that is
    /// 256 MiB of prompts, and more waiting than that only hides overload.
    pub capacity: Count<1, 256, 1_000_000>,
    /// Most waiting tasks in the line of one pool. A task stands in the line of one pool that could
    /// serve it, the shortest; it is refused when all of these are full. Default: as `capacity`.
    pub pool_capacity: Option<Count<1, 256, 1_000_000>>,
    /// How long a waiting task waits for a pool to come back when none can serve it any more, ms.
    /// Then it ends with an error. Default 2 min: a node restarts and loads a large model.
    pub stranded_max_wait_ms: Ms<0, 120_000, 86_400_000>,
    /// How long a task waits at most for a model that a pool can load, while other tasks keep the pool's present model in
    /// use, ms. Then the pool takes no more of those and loads it. Default 30 s.
    pub swap_after_ms: Ms<0, 30_000, 86_400_000>,
    /// How long tasks that run then may go on, ms. Default 60 s.
    pub swap_drain_ms: Ms<0, 60_000, 86_400_000>,
    /// What a full queue does. Default `reject`.
    pub policy: QueuePolicy,
    /// A batch task that has waited this long goes before interactive ones, ms. Default 10 min.
    pub batch_max_wait_ms: Ms<100, 600_000, 604_800_000>,
}

/// What a full queue does with one task more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueuePolicy {
    /// Refuses the newcomer.
    #[default]
    Reject,
    /// Drops the longest waiting task of the lowest class.
    DropLru,
}

/// Token streams.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sse {
    /// Frames a reader may lag before reading from the engine pauses. Default 512, about 48 KiB of
    /// short tokens, within the 64 KiB a stream may buffer.
    pub channel_cap: Count<16, 512, 65_536>,
    /// Whether several ready tokens share one frame. Default: no.
    pub microbatch: bool,
    /// A comment line after this long without a frame, ms. Default 15 s: below the idle limits of
    /// usual proxies (60 s and more).
    pub heartbeat_ms: Ms<100, 15_000, 300_000>,
    /// Whether narration is repeated periodically in the stream. Default: no.
    pub logs_enabled: bool,
    /// Period of repeated narration, ms. Default 5 s.
    pub logs_period_ms: Ms<100, 5_000, 600_000>,
    /// How long a reader that lags more than `channel_cap` may hold up the engine, ms. Then it is
    /// detached; its stream ends without a terminal event and can be resumed.
    pub slow_reader_timeout_ms: Ms<100, 30_000, 3_600_000>,
    /// How long a finished stream stays readable for a late or returning reader, ms. Default 5 min.
    pub resume_window_ms: Ms<0, 300_000, 86_400_000>,
    /// Most finished tasks kept readable at a time; the oldest go first. Default 1024.
    pub retained_tasks: Count<0, 1_024, 1_000_000>,
}

/// The link to pool-managerd.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// How often nodes are asked to report, ms. Default 1 s.
    pub heartbeat_interval_ms: Ms<50, 1_000, 60_000>,
    /// After this long without a report a node's pools take no new work, ms. Default 3.5 s: three
    /// missed reports and a margin. Must be above the interval.
    pub stale_after_ms: Ms<100, 3_500, 600_000>,
}

/// Calls to engines. There is no total timeout on a stream except the wall limit.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Longest connection set-up, ms. Default 2 s: engines are on this host or one hop away.
    pub connect_timeout_ms: Ms<50, 2_000, 60_000>,
    /// Longest wait for the first token, ms. Default 2 min: prefill of a long context on a small card.
    pub first_token_timeout_ms: Ms<100, 120_000, 3_600_000>,
    /// Longest pause between tokens, ms. Default 30 s: far above any decode step, so it means a hang.
    pub token_idle_timeout_ms: Ms<100, 30_000, 3_600_000>,
    /// Longest run of one task, ms. Default 1 h.
    pub wall_timeout_ms: Ms<1_000, 3_600_000, 604_800_000>,
}

/// Placement: which overrides requests may use (ORCH-3961), all by default, and how long decisions
/// can be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// `mode: pin`.
    pub allow_pin: bool,
    /// `mode: prefer`.
    pub allow_prefer: bool,
    /// `avoid_pools`.
    pub allow_avoid: bool,
    /// `require_device_mask`.
    pub allow_device_mask: bool,
    /// Most pool states kept for replaying decisions (`llama-orch task explain`), all tasks
    /// together; the oldest make room. Default 16 384: about 8 MiB.
    pub kept_decision_pools: Count<0, 16_384, 10_000_000>,
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            allow_pin: true,
            allow_prefer: true,
            allow_avoid: true,
            allow_device_mask: true,
            kept_decision_pools: Count::default(),
        }
    }
}
