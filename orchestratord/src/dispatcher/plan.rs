//! From the fleet to what the core decides on: the snapshot of pools.
//!
//! Owns the cached snapshot and the estimator that supplies its measured numbers.

use std::sync::Arc;
use std::time::Duration;

use api_types::{ModelId, PoolId, TaskId};
use orchestrator_core::eta::{Demand, Ewma, Observation, ServiceStats};
use orchestrator_core::policy::{Loadable, PoolView, Readiness, Snapshot};
use tokio::time::Instant;

use super::estimate::Estimator;
use super::fleet::{Fleet, Pool};
use crate::task_log::TaskLog;

/// How old the predicted times in the snapshot may be. They are one of the later tie-breaks among
/// busy pools, and a snapshot that stays the same serves many admissions.
pub(super) const REFRESH: Duration = Duration::from_millis(100);

/// Snapshot cache and estimator.
#[derive(Debug, Default)]
pub(super) struct Planner {
    snapshot: Arc<Snapshot>,
    built_from: Option<u64>,
    /// When the numbers that change by themselves were last computed.
    refreshed: Option<Instant>,
    /// What is measured, and when tasks start and end.
    pub estimator: Estimator,
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
            self.refresh(fleet, now);
        }
        &self.snapshot
    }

    /// The snapshot as it was last brought up to date.
    pub(super) const fn last_snapshot(&self) -> &Arc<Snapshot> {
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
                .map(|(id, pool)| view_of(id, pool, fleet, &self.estimator))
                .collect(),
        });
        self.built_from = Some(fleet.version());
    }

    fn refresh(&mut self, fleet: &Fleet, now: Instant) {
        self.refreshed = Some(now);
        let pools = self.snapshot.pools.iter().enumerate();
        let changed: Vec<(usize, Option<u64>)> = pools
            .map(|(index, view)| (index, self.estimator.free_in(view, fleet, now)))
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

    /// The snapshot is to be built anew from the fleet.
    pub(super) fn invalidate(&mut self) {
        self.built_from = None;
    }

    /// A slot of `pool` was leased to `task`; the snapshot already shows it as taken.
    pub(super) fn started(
        &mut self,
        pool: &PoolId,
        task: TaskId,
        demand: Demand,
        log: TaskLog,
        since: Instant,
    ) {
        self.estimator.started(pool, task, demand, log, since);
    }

    /// A run has ended. What it showed, if anything, is learned.
    pub(super) fn ended(&mut self, pool: &PoolId, model: &ModelId, task: TaskId, seen: Option<&Observation>) {
        self.estimator.ended(pool, model, task, seen);
        // Free slots and speeds have changed.
        self.built_from = None;
    }

    /// Forgets pools that are gone, once nothing runs there.
    pub(super) fn retain(&mut self, fleet: &Fleet) {
        let models = |model: &ModelId| fleet.pools().any(|(_, pool)| pool.report.model_id == *model);
        self.estimator.retain(|pool| fleet.pool(pool).is_some(), models);
    }
}

fn view_of(id: &PoolId, pool: &Pool, fleet: &Fleet, estimator: &Estimator) -> PoolView {
    let report = &pool.report;
    let stats = estimator.stats(id, &report.model_id);
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
        loadable: loadable(id, pool, estimator),
    }
}

/// The models that a pool would have to load.
fn loadable(id: &PoolId, pool: &Pool, estimator: &Estimator) -> Vec<Loadable> {
    pool.report
        .loadable()
        .map(|model| Loadable {
            model_id: model.model_id.clone(),
            model_ref: model.model_ref.clone(),
            load_ms: estimator.load_ms(id, &model.model_id),
        })
        .collect()
}

/// The pool's own word, except that a replica that just broke under a task counts as starting
/// until its node reports again.
fn readiness(pool: &Pool) -> Readiness {
    match Readiness::of(&pool.report, pool.live) {
        Readiness::Ready if !pool.is_ready() => Readiness::Starting,
        told => told,
    }
}
