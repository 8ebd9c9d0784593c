//! What placement knows about each pool at one moment.

use api_types::pool::{PoolReport, ReplicaState};
use api_types::{EngineKind, ModelId, ModelRef, PoolId, Workload};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All pools at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// Changes whenever any pool below does.
    pub version: u64,
    /// The pools, in any order, each id once.
    pub pools: Vec<PoolView>,
}

impl Snapshot {
    /// Looks a pool up.
    #[must_use]
    pub fn pool(&self, id: &PoolId) -> Option<&PoolView> {
        self.pools.iter().find(|pool| &pool.pool_id == id)
    }

    /// Takes a free slot of a pool and counts the version up.
    ///
    /// # Errors
    /// [`NoFreeSlot`] if the pool is not there or all its slots are leased; nothing changes.
    pub fn take_slot(&mut self, id: &PoolId) -> Result<(), NoFreeSlot> {
        let mut pools = self.pools.iter_mut();
        let pool = pools.find(|pool| &pool.pool_id == id && pool.slots_free > 0);
        let pool = pool.ok_or(NoFreeSlot)?;
        pool.slots_free -= 1;
        self.version += 1;
        Ok(())
    }
}

/// The pool is not in the snapshot, or all its slots are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pool has no free slot")]
pub struct NoFreeSlot;

/// One pool at one moment. Whole numbers only, so that a stored view reads back as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolView {
    /// The pool.
    pub pool_id: PoolId,
    /// Whether it takes work, or will.
    pub readiness: Readiness,
    /// Its engine.
    pub engine: EngineKind,
    /// The name clients use for its model.
    pub model_id: ModelId,
    /// What it was configured with.
    pub model_ref: ModelRef,
    /// Context per slot, tokens.
    pub ctx_max: u32,
    /// What its engine can do.
    pub workloads: Vec<Workload>,
    /// Whether it promises reproducible output.
    pub deterministic: bool,
    /// GPU UUIDs its engine may see.
    pub device_mask: Vec<String>,
    /// Slots of its ready replicas.
    pub slots_total: u32,
    /// Slots without a lease.
    pub slots_free: u32,
    /// When it can start one more task, ms from now; absent until measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_free_ms: Option<u64>,
    /// Measured decode speed of one slot, thousandths of a token per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_mtps: Option<u64>,
    /// GPU memory nobody uses, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_free_bytes: Option<u64>,
    /// Models it can load in place of the present one; the present one too, where nothing is loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loadable: Vec<Loadable>,
}

/// A model that a pool can load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Loadable {
    /// The name clients use.
    pub model_id: ModelId,
    /// Where it is.
    pub model_ref: ModelRef,
    /// How long a load of it takes, ms; absent until measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ms: Option<u64>,
}

impl PoolView {
    /// Whether a task could start here at once.
    #[must_use]
    pub fn has_free_slot(&self) -> bool {
        self.readiness == Readiness::Ready && self.slots_free > 0
    }

    /// Whether it serves the model, by its served name or by the reference it was configured with.
    #[must_use]
    pub fn serves(&self, model: &ModelRef) -> bool {
        model.means(&self.model_id, &self.model_ref)
    }

    /// The model, if the pool would have to load it first.
    #[must_use]
    pub fn would_load(&self, model: &ModelRef) -> Option<&Loadable> {
        let loaded = self.readiness != Readiness::Unloaded && self.serves(model);
        if loaded { None } else { self.can_load(model) }
    }

    /// Whether it serves the model or can load it.
    #[must_use]
    pub fn offers(&self, model: &ModelRef) -> bool {
        self.serves(model) || self.can_load(model).is_some()
    }

    fn can_load(&self, model: &ModelRef) -> Option<&Loadable> {
        self.loadable
            .iter()
            .find(|loadable| model.means(&loadable.model_id, &loadable.model_ref))
    }

    /// Whether the engine sees exactly the GPUs of a comma separated list.
    pub(super) fn runs_on_exactly(&self, required: &str) -> bool {
        let required = || required.split(',').map(str::trim);
        required().all(|uuid| self.device_mask.iter().any(|own| own == uuid))
            && self
                .device_mask
                .iter()
                .all(|own| required().any(|uuid| uuid == own))
    }
}

/// Whether a pool takes work, or will. An unknown or stale pool is never ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// Takes work.
    Ready,
    /// Does not yet, and its node works on it: starting, loading, or waiting for the next start.
    Starting,
    /// Nothing is loaded; a task that asks for one of its models has it loaded.
    Unloaded,
    /// Refuses new work on purpose.
    Draining,
    /// Not heard of, stopped or given up; nothing is under way.
    Down,
}

impl Readiness {
    /// Reads a pool's own report; `live` tells whether its node was heard of lately.
    #[must_use]
    pub fn of(report: &PoolReport, live: bool) -> Self {
        use ReplicaState as S;
        let any = |states: &[S]| report.replicas.iter().any(|r| states.contains(&r.state));
        if !live {
            Self::Down
        } else if report.draining {
            Self::Draining
        } else if report.unloaded {
            // Without a model that may be loaded for a task's sake, a person has to act.
            let may_load = report.loadable().next().is_some();
            if may_load { Self::Unloaded } else { Self::Down }
        } else if any(&[S::Ready]) {
            Self::Ready
        } else if any(&[S::Preflight, S::Starting, S::Loading, S::Backoff]) {
            Self::Starting
        } else if any(&[S::Draining]) {
            Self::Draining
        } else {
            Self::Down
        }
    }
}
