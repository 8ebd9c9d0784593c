//! From the fleet to what the core decides on: the snapshot of pools and the estimates.
//!
//! Owns the cached snapshot, the measured service times and the running tasks' start times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_types::{ModelId, PoolId, TaskId};
use orchestrator_core::dispatch::Job;
use orchestrator_core::eta::{
    Demand, Estimate, Ewma, Expected, Observation, Running, ServiceStats, ServiceTimes, Slot, predict,
};
use orchestrator_core::policy::{JobSpec, PoolView, Readiness, Snapshot, could_serve};
use orchestrator_core::queue::Queue;
use tokio::time::Instant;

use super::fleet::{Fleet, Pool};

/// Tasks ahead that are looked at one by one for whether they compete; beyond them all are taken
/// to compete, so that an admission into a long queue stays cheap.
const LOOKED_AT: usize = 128;

/// Tasks ahead that are run through the slots on paper at most. Further ones would be too far away
/// for an honest prediction.
const PREDICTED: usize = 4096;

/// How old the predicted times in the snapshot may be. They are one of the later tie-breaks among
/// busy pools, and a snapshot that stays the same serves many admissions.
const REFRESH: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
struct Active {
    since: Instant,
    demand: Demand,
}

/// Snapshot cache, measured service times, running tasks.
#[derive(Debug, Default)]
pub(super) struct Planner {
    snapshot: Arc<Snapshot>,
    built_from: Option<u64>,
    /// When the numbers that change by themselves were last computed.
    refreshed: Option<Instant>,
    times: ServiceTimes,
    running: BTreeMap<PoolId, BTreeMap<TaskId, Active>>,
    tokens_per_byte: Ewma,
}

impl Planner {
    /// How many tokens a prompt of `bytes` likely has, from the prompts engines have counted; the
    /// upper bound of one per byte until the first.
    pub(super) fn likely_tokens(&self, bytes: u32) -> u32 {
        // Float to integer conversion saturates.
        (f64::from(bytes) * self.tokens_per_byte.mean().unwrap_or(1.0)).ceil() as u32
    }

    /// An engine counted a prompt.
    pub(super) fn counted(&mut self, bytes: usize, tokens: u32) {
        if bytes > 0 && tokens > 0 {
            self.tokens_per_byte.add(f64::from(tokens) / bytes as f64);
        }
    }

    /// The snapshot, brought up to date with the fleet and, every [`REFRESH`], with the clock. One
    /// version is one content.
    pub(super) fn snapshot(&mut self, fleet: &Fleet, now: Instant) -> &Arc<Snapshot> {
        let rebuilt = self.built_from != Some(fleet.version());
        if rebuilt {
            self.rebuild(fleet);
        }
        if rebuilt || self.refreshed.is_none_or(|at| now >= at + REFRESH) {
            self.refresh(now);
        }
        &self.snapshot
    }

    /// The same for the core, which takes slots in it. Whoever else holds it keeps what it has.
    pub(super) fn snapshot_mut(&mut self) -> &mut Snapshot {
        Arc::make_mut(&mut self.snapshot)
    }

    fn rebuild(&mut self, fleet: &Fleet) {
        let pools = fleet.pools();
        self.snapshot = Arc::new(Snapshot {
            version: self.snapshot.version + 1,
            pools: pools
                .map(|(id, pool)| view_of(id, pool, fleet, &self.times))
                .collect(),
        });
        self.built_from = Some(fleet.version());
    }

    fn refresh(&mut self, now: Instant) {
        self.refreshed = Some(now);
        let pools = self.snapshot.pools.iter().enumerate();
        let changed: Vec<(usize, Option<u64>)> = pools
            .map(|(index, view)| (index, self.free_in(view, now)))
            .filter(|&(index, free_in)| self.snapshot.pools[index].predicted_free_ms != free_in)
            .collect();
        if changed.is_empty() {
            return;
        }
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        for (index, free_in) in changed {
            snapshot.pools[index].predicted_free_ms = free_in;
        }
    }

    fn free_in(&self, view: &PoolView, now: Instant) -> Option<u64> {
        let full = view.readiness == Readiness::Ready && view.slots_free == 0;
        full.then(|| self.first_free(view, now)).flatten()
    }

    /// The snapshot is to be built anew from the fleet.
    pub(super) fn invalidate(&mut self) {
        self.built_from = None;
    }

    /// A slot of `pool` was leased to `task`; the snapshot already shows it as taken.
    pub(super) fn started(&mut self, pool: &PoolId, task: TaskId, demand: Demand, since: Instant) {
        self.running
            .entry(pool.clone())
            .or_default()
            .insert(task, Active { since, demand });
    }

    /// A run has ended. What it showed, if anything, is learned.
    pub(super) fn ended(&mut self, pool: &PoolId, model: &ModelId, task: TaskId, seen: Option<&Observation>) {
        if let Some(tasks) = self.running.get_mut(pool) {
            tasks.remove(&task);
        }
        if let Some(seen) = seen {
            self.times.observe(pool, model, seen);
        }
        // Free slots and speeds have changed.
        self.built_from = None;
    }

    /// What runs of this pool's model have shown.
    pub(super) fn stats(&self, pool: &PoolId, model: &ModelId) -> Option<&ServiceStats> {
        self.times.stats(pool, model)
    }

    /// Everything that runs, for the time when a place frees.
    pub(super) fn all_running(&self, now: Instant) -> Vec<Running> {
        self.snapshot
            .pools
            .iter()
            .flat_map(|view| self.running_on(view, now))
            .collect()
    }

    /// When a task with `position` tasks ahead of it starts and ends; `None` where nothing
    /// measured supports it.
    pub(super) fn estimate(
        &self,
        job: &JobSpec,
        demand: &Demand,
        queue: &Queue<Job>,
        position: usize,
        now: (Instant, u64),
    ) -> Option<Estimate> {
        let pools: Vec<&PoolView> = self
            .snapshot
            .pools
            .iter()
            .filter(|view| view.readiness == Readiness::Ready && could_serve(job, view))
            .collect();
        let ahead = self.competing(&pools, queue, position, now.1);
        if ahead > PREDICTED {
            return None;
        }
        let typical = pools.iter().find_map(|view| {
            self.expected(
                view,
                &Demand {
                    expected_out: None,
                    ..*demand
                },
            )
        });
        let own = pools.iter().find_map(|view| self.expected(view, demand));
        let slots = pools.iter().flat_map(|view| self.slots(view, now.0));
        predict(slots, std::iter::repeat_n(typical, ahead), own)
    }

    fn competing(&self, pools: &[&PoolView], queue: &Queue<Job>, position: usize, now_ms: u64) -> usize {
        let looked_at = queue.order(now_ms).take(position.min(LOOKED_AT));
        let rivals = looked_at
            .filter(|(_, job)| pools.iter().any(|view| could_serve(job.spec(), view)))
            .count();
        rivals + position.saturating_sub(LOOKED_AT)
    }

    fn slots(&self, view: &PoolView, now: Instant) -> impl Iterator<Item = Slot> {
        let free = std::iter::repeat_n(Slot::Free, view.slots_free as usize);
        free.chain(self.running_on(view, now).into_iter().map(Slot::Leased))
    }

    fn first_free(&self, view: &PoolView, now: Instant) -> Option<u64> {
        self.running_on(view, now)
            .iter()
            .filter_map(Running::remaining_ms)
            .min()
    }

    fn running_on(&self, view: &PoolView, now: Instant) -> Vec<Running> {
        let Some(tasks) = self.running.get(&view.pool_id) else {
            return Vec::new();
        };
        let running = |active: &Active| Running {
            elapsed_ms: now.saturating_duration_since(active.since).as_millis() as u64,
            expected: self.expected(view, &active.demand),
        };
        tasks.values().map(running).collect()
    }

    fn expected(&self, view: &PoolView, demand: &Demand) -> Option<Expected> {
        self.times.stats(&view.pool_id, &view.model_id)?.expected(demand)
    }

    /// Forgets pools that are gone, once nothing runs there.
    pub(super) fn retain(&mut self, keep: impl Fn(&PoolId) -> bool) {
        self.running.retain(|pool, tasks| keep(pool) || !tasks.is_empty());
        self.times.retain(keep);
    }
}

fn view_of(id: &PoolId, pool: &Pool, fleet: &Fleet, times: &ServiceTimes) -> PoolView {
    let report = &pool.report;
    let stats = times.stats(id, &report.model_id);
    PoolView {
        pool_id: id.clone(),
        readiness: readiness(pool),
        engine: report.engine,
        model_id: report.model_id.clone(),
        model_ref: report.model_ref.clone(),
        ctx_max: report.ctx_max,
        workloads: report.supported_workloads.clone(),
        deterministic: report.deterministic,
        device_mask: report.device_mask.clone(),
        slots_total: pool.slots_total(),
        slots_free: pool.slots_free(),
        predicted_free_ms: None,
        decode_mtps: stats.and_then(ServiceStats::decode_mtps),
        vram_free_bytes: fleet.vram_free_bytes(pool),
    }
}

/// The pool's own word, except that a replica that just broke under a task counts as starting
/// until its node reports again.
fn readiness(pool: &Pool) -> Readiness {
    match Readiness::of(&pool.report, pool.live) {
        Readiness::Ready if !pool.is_ready() => Readiness::Starting,
        told => told,
    }
}
