//! The closed set of reasons for which a pool is left out, in the order they are asked.

use api_types::{Determinism, PlacementMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::decision::FilterApplied;
use super::job::JobSpec;
use super::pool::{PoolView, Readiness};

/// One question a pool must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// It serves the model, or can load it.
    Model,
    /// It runs the asked engine.
    Engine,
    /// Its engine does the workload.
    Workload,
    /// One slot has enough context.
    Context,
    /// It promises reproducible output, where that is asked.
    Determinism,
    /// It runs on exactly the required GPUs.
    DeviceMask,
    /// It is the pinned one.
    Pin,
    /// It is a preferred one, where there is no fallback.
    Preferred,
    /// It is not an avoided one, where there is no fallback.
    Avoided,
    /// It is not draining.
    Draining,
    /// It is up, or on its way.
    Down,
}

impl Filter {
    /// Every filter in the order they are asked.
    pub const ALL: [Self; 11] = [
        Self::Model,
        Self::Engine,
        Self::Workload,
        Self::Context,
        Self::Determinism,
        Self::DeviceMask,
        Self::Pin,
        Self::Preferred,
        Self::Avoided,
        Self::Draining,
        Self::Down,
    ];

    /// The first filter the pool fails; `None` if it is a candidate.
    #[must_use]
    pub fn first_failed(job: &JobSpec, pool: &PoolView) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| !filter.passes(job, pool))
    }

    /// Whether it asks for the pool's condition now, which changes by itself.
    #[must_use]
    pub const fn is_condition(self) -> bool {
        matches!(self, Self::Draining | Self::Down)
    }

    /// Whether the task asks this question at all.
    #[must_use]
    pub fn concerns(self, job: &JobSpec) -> bool {
        let needs = &job.needs;
        let placement = &needs.placement;
        match self {
            Self::Model | Self::Workload | Self::Context | Self::Draining | Self::Down => true,
            Self::Engine => needs.engine.is_some(),
            Self::Determinism => needs.determinism == Determinism::Strict,
            Self::DeviceMask => placement.require_device_mask.is_some(),
            Self::Pin => placement.mode == PlacementMode::Pin,
            Self::Preferred => placement.mode == PlacementMode::Prefer && !placement.allow_fallback,
            Self::Avoided => !placement.avoid_pools.is_empty() && !placement.allow_fallback,
        }
    }

    fn passes(self, job: &JobSpec, pool: &PoolView) -> bool {
        let needs = &job.needs;
        let placement = &needs.placement;
        if !self.concerns(job) {
            return true;
        }
        match self {
            Self::Model => pool.offers(&needs.model_ref),
            Self::Engine => needs.engine == Some(pool.engine),
            Self::Workload => pool.workloads.contains(&needs.workload),
            Self::Context => job.ctx_tokens <= pool.ctx_max,
            Self::Determinism => pool.deterministic,
            Self::DeviceMask => placement
                .require_device_mask
                .as_deref()
                .is_none_or(|mask| pool.runs_on_exactly(mask)),
            Self::Pin => placement.pin_pool_id.as_ref() == Some(&pool.pool_id),
            Self::Preferred => placement.prefer_pools.contains(&pool.pool_id),
            Self::Avoided => !placement.avoid_pools.contains(&pool.pool_id),
            Self::Draining => pool.readiness != Readiness::Draining,
            Self::Down => pool.readiness != Readiness::Down,
        }
    }
}

/// How many pools each filter removed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FilterCounts([u32; Filter::ALL.len()]);

impl FilterCounts {
    pub(super) const fn count(&mut self, filter: Filter) {
        self.0[filter as usize] += 1;
    }

    /// The filters that concern the job, for the log.
    pub(super) fn applied(&self, job: &JobSpec) -> Vec<FilterApplied> {
        let concerned = Filter::ALL.into_iter().filter(|filter| filter.concerns(job));
        concerned
            .map(|filter| FilterApplied {
                filter,
                removed: self.0[filter as usize],
            })
            .collect()
    }

    /// The filter that removed the last pool, when all of them were removed.
    pub(super) fn emptied_by(&self) -> Option<Filter> {
        Filter::ALL
            .into_iter()
            .rev()
            .find(|filter| self.0[*filter as usize] > 0)
    }
}
