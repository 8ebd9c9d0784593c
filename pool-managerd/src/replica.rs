//! A replica: one engine process after the other, supervised. [`ReplicaHandle`] is all that others see; the
//! actor behind it owns the [`machine`] and performs what it decides.

mod actor;
mod budget;
pub mod custody;
pub mod machine;
mod monitor;
mod watching;

use std::sync::Arc;
use std::time::Duration;

use api_types::pool::ReplicaState;
use api_types::{EngineKind, ModelChoice, PoolId, ReplicaId};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use budget::RestartPolicy;

use crate::changes::Changes;
use crate::engine::command::{EngineSpec, fingerprint};
use crate::engine::launcher::Launcher;
use crate::engine::output::Output;
use crate::engine::probe::{Clients, endpoint_url};
use crate::gpu::GpuWatch;
use crate::metrics::Metrics;
use crate::models::ServedModel;
use crate::source::EngineSource;
use custody::{Custody, Legacy};
use machine::{Goal, LifePolicy, Status};

/// Messages that may wait for an actor. A goal that finds no room is sent again by the next round.
const INBOX: usize = 8;

/// What one replica is.
#[derive(Debug, Clone)]
pub struct ReplicaOptions {
    /// Its pool.
    pub pool: PoolId,
    /// Itself.
    pub id: ReplicaId,
    /// The pool's engine.
    pub engine_kind: EngineKind,
    /// What to run.
    pub engine: EngineSpec,
    /// How it is started.
    pub launcher: Launcher,
    /// What it is started from.
    pub source: EngineSource,
    /// How its engines are kept.
    pub custody: Arc<Custody>,
    /// What an earlier run of the daemon has left of it.
    pub legacy: Legacy,
    /// What a running engine that was left serves.
    pub legacy_model: Option<Arc<ServedModel>>,
    /// How it lives.
    pub life: LifePolicy,
    /// Between two looks at the health of a serving engine.
    pub health_interval: Duration,
    /// Between two looks at whether it still generates.
    pub watchdog: Duration,
}

impl ReplicaOptions {
    /// Of an engine that serves this model.
    #[must_use]
    pub fn fingerprint(&self, model: &ModelChoice) -> String {
        fingerprint(&self.engine, &self.launcher, model)
    }
}

/// What all replicas share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The clients that look at engines.
    pub clients: Clients,
    /// The samples of the GPUs.
    pub gpus: GpuWatch,
    /// Told of every change of a replica's state.
    pub changes: Changes,
    /// The daemon's families.
    pub metrics: Metrics,
    /// Waits for every task.
    pub tasks: TaskTracker,
    /// Ends every engine at once, without grace.
    pub kill: CancellationToken,
    /// Lets every engine run and ends their actors: the next run of the daemon takes them over.
    pub leave: CancellationToken,
}

/// What shall happen to a replica.
#[derive(Debug)]
enum Message {
    /// What it shall be, again or anew.
    Aim(Goal),
    /// End the engine, answer, and be no more.
    ShutDown(oneshot::Sender<()>),
}

/// The present state of a replica.
#[derive(Debug, Clone)]
pub struct ReplicaView {
    /// Its life.
    pub status: Status,
    /// Its process, while there is one.
    pub process: Option<Process>,
    /// When the latest start was.
    pub started: Option<Instant>,
    /// What its processes hold on the GPUs, as far as the driver tells.
    pub gpu_memory: Option<u64>,
    /// How long the latest start took until it was ready.
    pub loaded: Option<Duration>,
    /// The output of the latest start.
    pub current: Option<Arc<Output>>,
    /// The output of the start before.
    pub previous: Option<Arc<Output>>,
}

/// A running engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Process id and group.
    pub pid: u32,
    /// Loopback port.
    pub port: u16,
}

impl Process {
    /// The engine's base URL on this host.
    #[must_use]
    pub fn endpoint(&self) -> String {
        endpoint_url(self.port)
    }
}

impl ReplicaView {
    /// Since the start of a process that is on its way to ready.
    #[must_use]
    pub fn starting_for(&self) -> Option<Duration> {
        let on_its_way = matches!(self.status.state, ReplicaState::Starting | ReplicaState::Loading);
        Some(self.started.filter(|_| on_its_way)?.elapsed())
    }

    /// How long the process that serves took from its start until it was ready.
    #[must_use]
    pub fn load_took(&self) -> Option<Duration> {
        let serves = matches!(self.status.state, ReplicaState::Ready | ReplicaState::Draining);
        self.loaded.filter(|_| serves)
    }

    /// The output of one start: the given generation, or the latest. Only the last two are kept.
    #[must_use]
    pub fn output(&self, generation: Option<u64>) -> Option<&Arc<Output>> {
        let kept = [&self.current, &self.previous];
        kept.into_iter()
            .flatten()
            .find(|output| generation.is_none_or(|wanted| output.generation() == wanted))
    }
}

/// The outside of a replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReplicaHandle {
    id: ReplicaId,
    inbox: mpsc::Sender<Message>,
    view: watch::Receiver<ReplicaView>,
}

impl ReplicaHandle {
    /// A replica and its actor, which is to be run: it takes over an engine that was left at once, and starts none before
    /// the first [`ReplicaHandle::aim`].
    #[must_use]
    pub fn new(options: ReplicaOptions, shared: Shared) -> (Self, BoxFuture<'static, ()>) {
        let (inbox, messages) = mpsc::channel(INBOX);
        let id = options.id.clone();
        let (actor, view) = actor::Actor::new(options, shared, messages);
        (Self { id, inbox, view }, actor.run().boxed())
    }

    /// Its id in the pool.
    #[must_use]
    pub const fn id(&self) -> &ReplicaId {
        &self.id
    }

    /// Tells what shall be. Never waits: a goal is a level, and the next round tells it again.
    pub fn aim(&self, goal: Goal) {
        let _room_or_next_round = self.inbox.try_send(Message::Aim(goal));
    }

    /// Ends the engine and the actor.
    pub async fn shut_down(&self) {
        let (done, ended) = oneshot::channel();
        if self.inbox.send(Message::ShutDown(done)).await.is_ok() {
            // An error means that the actor is gone, and its engine with it.
            let _ended_either_way = ended.await;
        }
    }

    /// The present state.
    #[must_use]
    pub fn view(&self) -> ReplicaView {
        self.view.borrow().clone()
    }
}
