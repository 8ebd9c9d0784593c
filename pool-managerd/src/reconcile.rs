//! The loop that drives what is to what shall be. It takes no input: it wakes up, looks at the GPUs, the
//! files and the orchestrator's wishes as they are now, and tells every replica its goal. Missing a signal
//! costs one interval.

use std::time::Duration;

use api_types::pool::{ReplicaState, UnreadyCause};
use narration_core::wall;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::facts::{Inputs, Presence};
use crate::gpu::{DriverError, GpuState};
use crate::metrics::Metrics;
use crate::models::ServedModel;
use crate::pool::{Orders, Pool, Pools};
use crate::preflight::Gates;
use crate::replica::ReplicaView;
use crate::replica::machine::{Goal, Wish};
use crate::rollout::{Rollout, Side, SideGoal, SideView, World};
use crate::source::EngineGate;
use crate::story;
use crate::trouble::{Unready, needs_a_person};

/// Between two rounds that nothing has asked for.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// How long the loop may take to answer before the daemon counts as stuck. A round does no I/O.
const PULSE_LIMIT: Duration = Duration::from_secs(1);

/// Questions that may wait for the loop.
const PULSE_QUEUE: usize = 16;

/// The loop before it runs.
#[derive(Debug)]
pub struct Reconciler {
    pools: Pools,
    gpus: watch::Receiver<GpuState>,
    metrics: Metrics,
    asked: mpsc::Receiver<oneshot::Sender<()>>,
    first_looks: FirstLooks,
}

/// Whether to wait for the first look at a GPU or file before saying that it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FirstLooks {
    Awaited,
    Overdue,
}

/// Asks the loop whether it still turns. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pulse(mpsc::Sender<oneshot::Sender<()>>);

impl Pulse {
    /// Whether the loop answers in time.
    pub async fn beats(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.0.send(answer).await.ok()?;
            answered.await.ok()
        };
        matches!(timeout(PULSE_LIMIT, asking).await, Ok(Some(())))
    }
}

impl Reconciler {
    /// The loop, and how to ask whether it turns.
    #[must_use]
    pub fn new(pools: Pools, gpus: watch::Receiver<GpuState>, metrics: Metrics) -> (Self, Pulse) {
        let (ask, asked) = mpsc::channel(PULSE_QUEUE);
        let reconciler = Self {
            pools,
            gpus,
            metrics,
            asked,
            first_looks: FirstLooks::Awaited,
        };
        (reconciler, Pulse(ask))
    }

    /// Turns until `stop`.
    pub async fn run(mut self, changes: Changes, stop: CancellationToken) {
        let mut ticks = interval_at(Instant::now() + ROUND_INTERVAL, ROUND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut orders = self.pools.orders();
        let mut changes = changes.subscribe();
        loop {
            // A closed watch means that its sender is gone with the rest of the daemon: the others still wake
            // this.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(asked) = self.asked.recv() => {
                    // Whoever asked may have stopped waiting.
                    let _heard_or_gone = asked.send(());
                    continue;
                }
                Ok(()) = changes.changed() => {}
                Ok(()) = orders.changed() => {}
                Ok(()) = self.gpus.changed() => {}
                _ = ticks.tick() => self.first_looks = FirstLooks::Overdue,
            }
            let told = orders.borrow_and_update().clone();
            self.round(&told);
        }
    }

    fn round(&mut self, orders: &Orders) {
        let gpus = self.gpus.borrow_and_update().clone();
        let known = !matches!(gpus, Err(DriverError::Pending));
        for pool in self.pools.iter() {
            let scene = Scene { gpus: &gpus, pool };
            if known || self.first_looks == FirstLooks::Overdue {
                scene.roll_out(orders);
                scene.aim(self.first_looks);
            }
            self.metrics.pool_ready(&pool.spec.id, pool.report().is_ready());
        }
    }
}

/// A pool and the GPUs at one moment.
struct Scene<'a> {
    gpus: &'a GpuState,
    pool: &'a Pool,
}

impl Scene<'_> {
    /// Takes up the latest operation and every step that is due.
    fn roll_out(&self, orders: &Orders) {
        let before = self.pool.rollout.borrow().clone();
        let mut rollout = before.clone();
        let now_ms = wall::unix_ms();
        if let Some(desired) = orders.operations.get(&self.pool.spec.id) {
            rollout.take_up(desired, now_ms);
        }
        rollout.advance(&self.world(&rollout, orders, now_ms));
        if rollout != before {
            story::rollout(&self.pool.spec.id, before.status(), rollout.status());
            self.pool.rollout.send_replace(rollout);
        }
    }

    fn world(&self, rollout: &Rollout, orders: &Orders, now_ms: u64) -> World {
        let candidate = rollout.candidate().map(|choice| self.pool.models.get(choice));
        let candidate = candidate.as_deref();
        World {
            now_ms,
            sides: Side::BOTH.map(|side| self.side(side, rollout.tries(), orders)),
            candidate: candidate.map_or(Ok(()), |model| self.could_start(rollout, model)),
            room_beside: candidate.map_or(Ok(()), |model| self.room_beside(rollout, model)),
            patience_ms: self.pool.spec.patience.as_millis() as u64,
            retry_after_ms: self.pool.spec.retry_after.as_millis() as u64,
        }
    }

    fn side(&self, side: Side, tries: u64, orders: &Orders) -> SideView {
        let replicas = &self.pool.sides[side.index()];
        let views: Vec<ReplicaView> = replicas.iter().map(crate::replica::ReplicaHandle::view).collect();
        let all = |state: ReplicaState| views.iter().all(|view| view.status.state == state);
        let leases = replicas.iter().map(|replica| {
            let key = (self.pool.spec.id.clone(), replica.id().clone());
            orders.leases.get(&key).copied()
        });
        SideView {
            stopped: all(ReplicaState::Stopped),
            ready: all(ReplicaState::Ready),
            failure: views.iter().find_map(failure),
            blocked: views.iter().find_map(blocked),
            given_up: all(ReplicaState::Failed) && views.iter().all(|view| view.status.tries == tries),
            leases: leases.sum(),
        }
    }

    /// Judged by a look at the file that is newer than the wish for it.
    fn could_start(&self, rollout: &Rollout, model: &ServedModel) -> Result<(), Unready> {
        model.file.want();
        if model.file.looked_ms() <= rollout.since_ms() {
            model.file.look_again();
            return Err(Unready::new(
                UnreadyCause::Loading,
                "the model file is being looked at",
            ));
        }
        self.with_gates(model, |gates| gates.apart_from_room())
    }

    /// What the engines that serve hold beyond their weights, the new ones need as well.
    fn room_beside(&self, rollout: &Rollout, model: &ServedModel) -> Result<(), Unready> {
        let replicas = &self.pool.sides[rollout.serving().index()];
        let Some(weights) = model.file.weights() else {
            return Err(Unready::new(
                UnreadyCause::VramInsufficient,
                "the model's header does not tell how much memory it needs",
            ));
        };
        let old_weights = self.pool.models.get(rollout.model()).file.weights().unwrap_or(0);
        let beyond = |view: ReplicaView| view.gpu_memory.unwrap_or(0).saturating_sub(old_weights);
        let beyond: u64 = replicas.iter().map(|replica| beyond(replica.view())).sum();
        let needed = weights
            .saturating_mul(replicas.len() as u64)
            .saturating_add(beyond);
        self.with_gates(model, |gates| gates.room_for(needed))
    }

    /// Tells every replica its goal.
    fn aim(&self, first_looks: FirstLooks) {
        let (goals, tries) = {
            let rollout = self.pool.rollout.borrow();
            (rollout.goals(), rollout.tries())
        };
        for (replicas, goal) in self.pool.sides.iter().zip(goals) {
            if let Some(goal) = self.goal(&goal, tries, first_looks) {
                replicas.iter().for_each(|replica| replica.aim(goal.clone()));
            }
        }
    }

    /// What a side's replicas shall be; `None` while the first looks are on their way.
    fn goal(&self, goal: &SideGoal, tries: u64, first_looks: FirstLooks) -> Option<Goal> {
        let Some(choice) = goal.model() else {
            return Some(Goal {
                wish: Wish::Stop,
                drain: true,
                inputs: Inputs::default(),
                model: None,
                tries,
            });
        };
        let model = self.pool.models.get(choice);
        model.file.want();
        let unknown =
            model.file.presence() == Presence::Unknown || self.pool.source.gate() == EngineGate::Unknown;
        if unknown && first_looks == FirstLooks::Awaited {
            return None;
        }
        let wish = match self.with_gates(&model, |gates| gates.check()) {
            Ok(()) => Wish::Run,
            Err(why) => Wish::Blocked(why),
        };
        Some(Goal {
            wish,
            drain: matches!(goal, SideGoal::Finish(_)),
            inputs: self.pool.inputs(&model),
            model: Some(model),
            tries,
        })
    }

    fn with_gates<T>(&self, model: &ServedModel, judge: impl FnOnce(&Gates<'_>) -> T) -> T {
        let identity = model.file.identity();
        let digest = identity.and_then(|identity| model.file.digest_of(identity));
        judge(&Gates {
            gpus: self.gpus,
            mask: &self.pool.spec.devices,
            reserved: &self.pool.spec.reserved,
            model: &model.file.presence(),
            expected_digest: model.sha256.as_deref(),
            digest: digest.as_deref(),
            engine: &self.pool.source.gate(),
        })
    }
}

/// Why a replica will not serve unless something is done, or what made its last start fail.
fn failure(view: &ReplicaView) -> Option<Unready> {
    let status = &view.status;
    let why = status.unready.as_ref()?;
    let hopeless = match status.state {
        // That an engine has ended is known before how: until it is told, there is no cause to act on.
        ReplicaState::Backoff => status.running_with.is_none(),
        ReplicaState::Failed => true,
        ReplicaState::Preflight => needs_a_person(why.cause),
        _ => false,
    };
    hopeless.then(|| with_last_words(why, status.last_error.as_deref()))
}

/// The engine's own last line says more than its cause.
fn with_last_words(why: &Unready, last_error: Option<&str>) -> Unready {
    match last_error.and_then(|lines| lines.lines().last()) {
        Some(last) => Unready::new(why.cause, format!("{} ({last})", why.hint)),
        None => why.clone(),
    }
}

/// Why a replica cannot be started yet.
fn blocked(view: &ReplicaView) -> Option<Unready> {
    let waits = view.status.state == ReplicaState::Preflight;
    view.status.unready.clone().filter(|_| waits)
}
