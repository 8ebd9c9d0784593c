//! The loop that drives what is to what shall be. It takes no input: it wakes up, looks at the GPUs, the
//! files and the orchestrator's wishes as they are now, and tells every replica its goal. Missing a signal
//! costs one interval.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::facts::Presence;
use crate::gpu::{DriverError, GpuState};
use crate::metrics::Metrics;
use crate::pool::{Pool, Pools};
use crate::preflight::Gates;
use crate::replica::machine::{Goal, Wish};

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
        let mut wishes = self.pools.wishes();
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
                Ok(()) = wishes.changed() => {}
                Ok(()) = self.gpus.changed() => {}
                _ = ticks.tick() => self.first_looks = FirstLooks::Overdue,
            }
            self.round();
        }
    }

    fn round(&mut self) {
        let gpus = self.gpus.borrow_and_update().clone();
        for pool in self.pools.iter() {
            let drain = self.pools.drains(&pool.spec.id);
            if let Some(goal) = goal(&gpus, pool, drain, self.first_looks) {
                pool.replicas.iter().for_each(|replica| replica.aim(goal.clone()));
            }
            let ready = self.pools.report_of(pool).is_ready();
            self.metrics.pool_ready(&pool.spec.id, ready);
        }
    }
}

/// What a pool's replicas shall be; `None` while the first looks are on their way.
fn goal(gpus: &GpuState, pool: &Pool, drain: bool, first_looks: FirstLooks) -> Option<Goal> {
    let (model, binary) = (pool.model.presence(), pool.binary.presence());
    let unknown =
        matches!(gpus, Err(DriverError::Pending)) || [&model, &binary].contains(&&Presence::Unknown);
    if unknown && first_looks == FirstLooks::Awaited {
        return None;
    }
    let digest = pool
        .model
        .identity()
        .and_then(|identity| pool.model.digest_of(identity));
    let gates = Gates {
        gpus,
        mask: &pool.spec.devices,
        reserved: &pool.spec.reserved,
        model: &model,
        expected_digest: pool.spec.model_sha256.as_deref(),
        digest: digest.as_deref(),
        engine: &binary,
    };
    let wish = match gates.check() {
        Ok(()) => Wish::Run,
        Err(why) => Wish::Blocked(why),
    };
    Some(Goal {
        wish,
        drain,
        inputs: pool.inputs(),
    })
}
