//! When tasks start and end: what runs and waits here, given to the core's forecast.
//!
//! Owns what was measured, the running tasks, and the board of all waiting tasks, which is made anew
//! when something it was made from has changed, but not so often that forecasting costs more than a
//! twentieth of a core.

use std::collections::BTreeMap;
use std::time::Duration;

use api_types::{ModelId, PoolId, Priority, TaskId};
use orchestrator_core::dispatch::Job;
use orchestrator_core::eta::{
    Board, Demand, Measured, Observation, Outlook, PoolSlots, Running, ServiceStats, Size, outlook_of_running,
};
use orchestrator_core::policy::{JobSpec, PoolView, Readiness, Snapshot};
use orchestrator_core::queue::Queue;
use tokio::time::Instant;

use super::fleet::Fleet;
use super::plan::REFRESH;
use crate::task_log::TaskLog;

/// A board is used for so many times as long as it took to make: forecasting costs a twentieth of a core at most.
const LIVES_PER_MAKING: u32 = 20;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The runtime's clock.
    pub now: Instant,
    /// The same in the core's milliseconds.
    pub ms: u64,
}

/// When a task starts and ends, ms from now, and the chance that this is before its deadline; absent
/// where nothing measured supports it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Estimate {
    /// When it gets a slot.
    pub start_ms: Option<u64>,
    /// When it ends.
    pub end_ms: Option<u64>,
    /// 0 to 1; only with a deadline.
    pub on_time: Option<f64>,
}

impl Estimate {
    fn of(outlook: Option<Outlook>, now_ms: u64) -> Self {
        Self {
            start_ms: outlook.and_then(|o| o.start_ms(now_ms)),
            end_ms: outlook.and_then(|o| o.end_ms(now_ms)),
            on_time: outlook.and_then(|o| o.on_time_probability()),
        }
    }
}

#[derive(Debug, Clone)]
struct Active {
    since: Instant,
    demand: Demand,
    log: TaskLog,
}

impl Active {
    /// How far it is, from its log.
    fn progress(&self, now: Instant) -> Running {
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
        let seen = self.log.progress();
        let last = seen.last_token_at;
        Running {
            demand: self.demand,
            elapsed_ms: ms(self.since, now),
            // A text may come before its engine has counted it.
            generated: seen.generated.max(u32::try_from(seen.tokens).unwrap_or(u32::MAX)),
            decode_ms: seen.first_token_at.zip(last).map_or(0, |(from, to)| ms(from, to)),
            idle_ms: last.map_or(0, |last| ms(last, now)),
        }
    }
}

#[derive(Debug)]
struct Made {
    board: Board,
    at: Instant,
    snapshot_version: u64,
    /// How long it took to make.
    took: Duration,
}

/// What was measured, what runs, and the last forecast.
#[derive(Debug, Default)]
pub(super) struct Estimator {
    measured: Measured,
    running: BTreeMap<PoolId, BTreeMap<TaskId, Active>>,
    made: Option<Made>,
}

/// What a forecast is made from besides what the estimator has.
pub(super) struct World<'w> {
    pub snapshot: &'w Snapshot,
    pub fleet: &'w Fleet,
    pub queue: &'w Queue<Job>,
}

impl Estimator {
    /// A slot of `pool` was leased to a task.
    pub(super) fn started(
        &mut self,
        pool: &PoolId,
        task: TaskId,
        demand: Demand,
        log: TaskLog,
        since: Instant,
    ) {
        let active = Active { since, demand, log };
        self.running.entry(pool.clone()).or_default().insert(task, active);
    }

    /// A run has ended. What it showed, if anything, is learned.
    pub(super) fn ended(&mut self, pool: &PoolId, model: &ModelId, task: TaskId, seen: Option<&Observation>) {
        let tasks = self.running.get_mut(pool);
        let active = tasks.and_then(|tasks| tasks.remove(&task));
        if let (Some(active), Some(seen)) = (active, seen) {
            self.measured.observe(pool, model, &active.demand, seen);
        }
    }

    /// An engine took so long from its start until it was ready.
    pub(super) fn loaded(&mut self, pool: &PoolId, model: &ModelId, took_ms: u64) {
        self.measured.loaded(pool, model, took_ms);
    }

    /// How long a load of the model takes in the pool, ms.
    pub(super) fn load_ms(&self, pool: &PoolId, model: &ModelId) -> Option<u64> {
        self.measured.ready_in_ms(pool, model, 0)
    }

    /// What runs of this pool's model have shown.
    pub(super) fn stats(&self, pool: &PoolId, model: &ModelId) -> Option<&ServiceStats> {
        self.measured.stats(pool, model)
    }

    /// What is left of each running task, if known, and for how long it has run, ms.
    pub(super) fn all_running(&self, snapshot: &Snapshot, now: Instant) -> Vec<(Option<u64>, u64)> {
        let pools = snapshot.pools.iter();
        pools
            .flat_map(|view| {
                let running = self.running_on(view, now).into_iter();
                running.map(|task| (self.remaining(view, &task), task.elapsed_ms))
            })
            .collect()
    }

    /// When a pool without a free slot can start one more task, ms from now.
    pub(super) fn free_in(&self, view: &PoolView, fleet: &Fleet, now: Instant) -> Option<u64> {
        match view.readiness {
            Readiness::Ready if view.slots_free == 0 => {
                let running = self.running_on(view, now);
                running.iter().filter_map(|task| self.remaining(view, task)).min()
            }
            Readiness::Starting => self.coming(view, fleet, now).into_iter().flatten().min(),
            Readiness::Ready | Readiness::Unloaded | Readiness::Draining | Readiness::Down => None,
        }
    }

    /// When an engine of a pool that is being started is ready, ms from now. While no load was measured, the time
    /// since its start is taken: a lower bound of how long a load lasts, not a prediction.
    pub(super) fn ready_in(&self, view: &PoolView, fleet: &Fleet, now: Instant) -> Option<u64> {
        let starting = fleet.starting(&view.pool_id, now).into_iter();
        let ready_in = starting.map(|(_, ago)| {
            let measured = self.measured.ready_in_ms(&view.pool_id, &view.model_id, ago);
            measured.unwrap_or(ago)
        });
        ready_in.min()
    }

    /// A waiting task.
    pub(super) fn waiting(
        &mut self,
        id: &TaskId,
        world: &World<'_>,
        size: impl Fn(&TaskId) -> Option<Size>,
        at: Moment,
    ) -> Estimate {
        let outlook = self.board(world, size, at).outlook(id);
        Estimate::of(outlook, at.ms)
    }

    /// A task that has just come and finds a slot free, with nobody before it.
    pub(super) fn starts_now(
        &mut self,
        view: &PoolView,
        spec: &JobSpec,
        own: &Size,
        snapshot: &Snapshot,
        at: Moment,
    ) -> Estimate {
        self.note_arrival(spec, own, snapshot, at.ms);
        let fresh = Running {
            demand: own.demand,
            elapsed_ms: 0,
            generated: 0,
            decode_ms: 0,
            idle_ms: 0,
        };
        Estimate {
            start_ms: Some(0),
            end_ms: self.remaining(view, &fresh),
            on_time: None,
        }
    }

    /// A task that would come now.
    pub(super) fn newcomer(
        &mut self,
        spec: &JobSpec,
        own: &Size,
        world: &World<'_>,
        size: impl Fn(&TaskId) -> Option<Size>,
        at: Moment,
    ) -> Estimate {
        self.board(world, size, at);
        let made = self.made.as_ref();
        let outlook = made.and_then(|made| made.board.newcomer(&self.measured, spec, own, at.ms));
        Estimate::of(outlook, at.ms)
    }

    /// A task that has just joined the queue; the board is extended, not made anew.
    pub(super) fn joined(
        &mut self,
        id: TaskId,
        spec: &JobSpec,
        own: &Size,
        world: &World<'_>,
        size: impl Fn(&TaskId) -> Option<Size>,
        at: Moment,
    ) -> Estimate {
        self.note_arrival(spec, own, world.snapshot, at.ms);
        // The task may be in the queue that a new board is made of.
        if self
            .board(
                world,
                |other| if *other == id { Some(*own) } else { size(other) },
                at,
            )
            .outlook(&id)
            .is_none()
            && let Some(made) = &mut self.made
        {
            made.board.join(&self.measured, id, spec, own, at.ms);
        }
        let outlook = self.made.as_ref().and_then(|made| made.board.outlook(&id));
        Estimate::of(outlook, at.ms)
    }

    /// A running task: when it ends.
    pub(super) fn running(
        &self,
        pool: &PoolId,
        model: &ModelId,
        task: &TaskId,
        deadline_at_ms: Option<u64>,
        at: Moment,
    ) -> Estimate {
        let active = self.running.get(pool).and_then(|tasks| tasks.get(task));
        let outlook = active.and_then(|active| {
            let running = active.progress(at.now);
            outlook_of_running(&self.measured, (pool, model), &running, at.ms, deadline_at_ms)
        });
        Estimate {
            start_ms: None,
            ..Estimate::of(outlook, at.ms)
        }
    }

    /// Forgets pools that are gone, once nothing runs there.
    pub(super) fn retain(&mut self, keep: impl Fn(&PoolId) -> bool, keep_model: impl Fn(&ModelId) -> bool) {
        self.running.retain(|pool, tasks| keep(pool) || !tasks.is_empty());
        self.measured.retain(keep, keep_model);
        self.made = None;
    }

    fn note_arrival(&mut self, spec: &JobSpec, own: &Size, snapshot: &Snapshot, now_ms: u64) {
        let mut pools = snapshot.pools.iter();
        if own.demand.class == Priority::Interactive
            && let Some(view) = pools.find(|view| view.serves(&spec.needs.model_ref))
        {
            self.measured
                .arrived(&view.model_id, now_ms, own.demand.tokens_in);
        }
    }

    fn board(&mut self, world: &World<'_>, size: impl Fn(&TaskId) -> Option<Size>, at: Moment) -> &Board {
        let usable = self.made.take_if(|made| !made.serves(world, at.now));
        // What is not usable any more is dropped.
        drop(usable);
        let made = match self.made.take() {
            Some(made) => made,
            None => self.make(world, size, at),
        };
        &self.made.insert(made).board
    }

    fn make(&self, world: &World<'_>, size: impl Fn(&TaskId) -> Option<Size>, at: Moment) -> Made {
        let began = Instant::now();
        let slots = |view| self.slots(view, world.fleet, at.now);
        let board = Board::new(&self.measured, world.snapshot, slots, world.queue, size, at.ms);
        Made {
            board,
            at: at.now,
            snapshot_version: world.snapshot.version,
            took: began.elapsed(),
        }
    }

    fn slots<'v>(&self, view: &'v PoolView, fleet: &Fleet, now: Instant) -> PoolSlots<'v> {
        PoolSlots {
            pool_id: &view.pool_id,
            model_id: &view.model_id,
            free: if view.has_free_slot() { view.slots_free } else { 0 },
            running: self.running_on(view, now),
            coming: self.coming(view, fleet, now),
        }
    }

    /// The slots of engines that are being started, each with the time until then. How many an engine
    /// will have is what it had last, else one.
    fn coming(&self, view: &PoolView, fleet: &Fleet, now: Instant) -> Vec<Option<u64>> {
        let starting = fleet.starting(&view.pool_id, now);
        let slots = starting.into_iter().flat_map(|(slots, started_ms_ago)| {
            let ready_in = self
                .measured
                .ready_in_ms(&view.pool_id, &view.model_id, started_ms_ago);
            std::iter::repeat_n(ready_in, slots as usize)
        });
        slots.collect()
    }

    fn running_on(&self, view: &PoolView, now: Instant) -> Vec<Running> {
        let tasks = self.running.get(&view.pool_id).into_iter().flatten();
        tasks.map(|(_, active)| active.progress(now)).collect()
    }

    fn remaining(&self, view: &PoolView, running: &Running) -> Option<u64> {
        self.measured.remaining_ms(&view.pool_id, &view.model_id, running)
    }
}

impl Made {
    /// Whether it still tells the truth, or has cost too much to be made anew already.
    fn serves(&self, world: &World<'_>, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        let current = self.snapshot_version == world.snapshot.version && age < REFRESH;
        let paid_for = age >= self.took * LIVES_PER_MAKING;
        current || !paid_for
    }
}
