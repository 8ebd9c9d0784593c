//! Models on demand: loads what waiting tasks ask for, unloads what nobody has asked for in its time, and makes room for one
//! pool by unloading idle others. Decides on levels only: what is under way shows in the reports.

use std::collections::BTreeSet;
use std::time::Duration;

use api_types::operation::OperationKind;
use api_types::{ModelRef, PoolId, TaskId};
use narration_core::Narration;
use orchestrator_core::policy::{JobSpec, Outcome, Readiness, WaitReason};
use orchestrator_core::residency::{Resident, victims};
use tokio::time::Instant;

use super::Dispatcher;
use super::fleet::Pool;
use super::operations::Ask;
use crate::story::ACTOR;

/// How many different wishes of the queue are looked at in one round, from its head on.
const LOOKED_AT: usize = 64;

/// Something that a waiting task wants loaded.
struct Demand {
    pool: PoolId,
    model: ModelRef,
    waited: Duration,
}

impl Dispatcher {
    /// Loads what the tasks at the head of the queue wait for and no pool serves sooner (REQ-MODEL-DEMAND).
    pub(super) fn meet_demand(&mut self, now: Instant) {
        let snapshot = self.planner.last_snapshot();
        if snapshot.pools.iter().all(|pool| pool.loadable.is_empty()) {
            return;
        }
        for demand in self.demands(now) {
            self.have_loaded(&demand, now);
        }
    }

    /// Unloads pools that nobody has asked for in their time (REQ-MODEL-IDLE).
    pub(super) fn unload_idle(&mut self, now: Instant) {
        let idle: Vec<PoolId> = self
            .fleet
            .pools()
            .filter(|(_, pool)| is_overdue(pool, now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in idle {
            if self.is_waited_for(&id) {
                continue;
            }
            self.unload(
                &id,
                "Nobody has asked for the pool in its time; its memory is given back.",
            );
        }
    }

    /// One for each kind of task, in the order in which they would start.
    fn demands(&mut self, now: Instant) -> Vec<Demand> {
        let now_ms = self.now_ms(now);
        let mut kinds = BTreeSet::new();
        let waiting: Vec<(TaskId, JobSpec)> = self
            .queue
            .order(now_ms)
            .filter(|(_, job)| kinds.insert(job.fingerprint()))
            .take(LOOKED_AT)
            .map(|(ticket, job)| (ticket.id, job.spec().clone()))
            .collect();
        let snapshot = std::sync::Arc::clone(self.planner.snapshot(&self.fleet, now));
        let mut demands = Vec::new();
        for (id, spec) in waiting {
            let decision = self.cache.decide(&spec, &snapshot, now_ms);
            if let Outcome::Wait {
                pool_id,
                because: WaitReason::Loadable,
            } = &decision.outcome
            {
                let since = self.tasks.get(&id).map_or(now, |task| task.admitted.at);
                demands.push(Demand {
                    pool: pool_id.clone(),
                    model: spec.needs.model_ref,
                    waited: now.saturating_duration_since(since),
                });
            }
        }
        demands
    }

    fn have_loaded(&mut self, demand: &Demand, now: Instant) {
        let Some(pool) = self.fleet.pool(&demand.pool) else {
            return;
        };
        if self.is_operated(&demand.pool) || !pool.live || !self.may_swap(&demand.pool, pool, demand.waited) {
            return;
        }
        if !self.has_room(&demand.pool, &demand.model, now) {
            return;
        }
        let ask = Ask {
            kind: OperationKind::Load,
            model_ref: Some(demand.model.clone()),
            model_id: None,
            deadline_ms: self.options.swap_drain.as_millis() as u64,
        };
        self.operate_alone(&demand.pool, &ask);
    }

    /// Whether what the pool serves may go: it is nobody's, or somebody else has waited long enough (REQ-MODEL-SWAP-BOUND).
    fn may_swap(&self, id: &PoolId, pool: &Pool, waited: Duration) -> bool {
        if pool.report.unloaded {
            return true;
        }
        if pool.report.residency.pinned || pool.is_just_chosen() {
            return false;
        }
        let wanted = pool.leases() > 0 || self.is_waited_for(id);
        !wanted || waited >= self.options.swap_after
    }

    /// Whether the model fits into the pool's GPUs now; if it does not, idle pools are told to make room for it.
    fn has_room(&mut self, id: &PoolId, model: &ModelRef, now: Instant) -> bool {
        let Some(pool) = self.fleet.pool(id) else {
            return false;
        };
        let needed = pool.report.listed(model).and_then(|listed| listed.weight_bytes);
        let (Some(needed), Some(free)) = (needed, self.fleet.vram_free_bytes(pool)) else {
            // The node knows better.
            return true;
        };
        let free = free.saturating_add(pool.holds_bytes());
        if free >= needed {
            return true;
        }
        let mask = pool.report.device_mask.clone();
        let node = pool.node.clone();
        let shares = |other: &Pool| {
            other.node == node && other.report.device_mask.iter().any(|gpu| mask.contains(gpu))
        };
        let neighbours: Vec<&PoolId> = self
            .fleet
            .pools()
            .filter(|(other, pool)| *other != id && shares(pool) && pool.holds_bytes() > 0)
            .map(|(other, _)| other)
            .collect();
        if neighbours.is_empty() {
            // Other programs have it; the node says who.
            return true;
        }
        let residents = neighbours
            .into_iter()
            .filter_map(|other| self.resident(other, now));
        let chosen = victims(needed, free, residents.collect()).unwrap_or_default();
        for victim in chosen {
            self.unload(&victim, "The pool makes room for another one.");
        }
        false
    }

    /// The pool as one that may make room.
    fn resident(&self, id: &PoolId, now: Instant) -> Option<Resident> {
        let pool = self.fleet.pool(id)?;
        let idle = pool.idle_for(now)?;
        let spared = pool.report.residency.pinned || pool.is_just_chosen();
        if spared || self.is_operated(id) || self.is_waited_for(id) {
            return None;
        }
        Some(Resident {
            pool_id: id.clone(),
            priority: pool.report.residency.priority,
            idle_ms: idle.as_millis() as u64,
            load_ms: self.planner.estimator.load_ms(id, &pool.report.model_id),
            bytes: pool.holds_bytes(),
        })
    }

    /// Whether a waiting task could start there without a load.
    fn is_waited_for(&self, id: &PoolId) -> bool {
        let Some(view) = self.planner.last_snapshot().pool(id) else {
            return false;
        };
        let loaded = view.readiness != Readiness::Unloaded;
        let mut waiting = self.queue.order(0);
        loaded && waiting.any(|(_, job)| view.serves(&job.spec().needs.model_ref))
    }

    fn unload(&mut self, id: &PoolId, human: &'static str) {
        let ask = Ask {
            kind: OperationKind::Unload,
            model_ref: None,
            model_id: None,
            deadline_ms: self.options.swap_drain.as_millis() as u64,
        };
        if !self.is_operated(id) && self.operate_alone(id, &ask) {
            Narration::new(ACTOR, "unload", id, human).pool_id(id).emit();
        }
    }
}

fn is_overdue(pool: &Pool, now: Instant) -> bool {
    let residency = pool.report.residency;
    let limit = residency.idle_unload_ms.filter(|_| !residency.pinned);
    let idle = pool.idle_for(now);
    limit
        .zip(idle)
        .is_some_and(|(limit, idle)| idle >= Duration::from_millis(limit))
}
