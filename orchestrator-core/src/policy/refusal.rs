//! Why no pool takes a task: one reason for the whole, one per pool, with the numbers.

use std::fmt;

use api_types::{EngineKind, ErrorCode, ModelId, ModelRef, PoolId, Workload};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::{Filter, FilterCounts};
use super::job::JobSpec;
use super::pool::PoolView;

/// A message names this many pools and counts the rest, so that it stays readable.
const NAMED_POOLS: usize = 8;

/// A refusal with what is wrong with each pool the request asks for. Displays as the message for
/// the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// Why the task is refused.
    pub refusal: Refusal,
    /// What is wrong with the pinned pool, with the preferred ones where no other is allowed, else
    /// with each that serves the model; by id.
    pub pools: Vec<Infeasible>,
}

/// Why a task is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// There are pools, and none of them serves the model.
    #[error("no pool serves the model {model_ref}")]
    UnknownModel {
        /// The model asked for.
        model_ref: ModelRef,
    },
    /// Every pool that would do otherwise has too little context.
    #[error("the task needs {needed} tokens of context, the largest slot of this model has {largest}")]
    ContextTooLarge {
        /// Prompt and output of the task, tokens.
        needed: u32,
        /// The most any of these pools has, tokens.
        largest: u32,
    },
    /// Reproducible output is asked and no pool that would do otherwise promises it.
    #[error("no feasible pool promises reproducible output")]
    NoDeterministicPool,
    /// The pinned pool cannot serve the task.
    #[error("the pinned pool cannot serve the task")]
    PinnedPoolInfeasible {
        /// The pinned pool.
        pool_id: PoolId,
    },
    /// No pool has the pinned id, at least not now.
    #[error("there is no pool {pool_id}, which the task pins")]
    PinnedPoolUnknown {
        /// The pinned pool.
        pool_id: PoolId,
    },
    /// No preferred pool can serve the task and the request allows no other.
    #[error("no preferred pool can serve the task and no other is allowed")]
    NoPreferredFeasible,
    /// No pool fits the task otherwise, or there is no pool at all.
    #[error("no pool can serve the task")]
    NoFeasiblePool,
    /// Pools fit, and none of them is ready or on its way.
    #[error("no pool that can serve the task is ready")]
    NotReady,
}

/// A pool and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Infeasible {
    /// The pool.
    pub pool_id: PoolId,
    /// What is wrong with it for this task.
    #[serde(flatten)]
    pub why: Why,
}

/// What is wrong with a pool for a task; continues the sentence "pool x …".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// It serves another model.
    #[error("serves the model {serves}")]
    OtherModel {
        /// What it serves.
        serves: ModelId,
    },
    /// It runs another engine.
    #[error("runs {engine}, the task asks for {asked}")]
    OtherEngine {
        /// What it runs.
        engine: EngineKind,
        /// What is asked for.
        asked: EngineKind,
    },
    /// Its engine does not do the workload.
    #[error("does not do {asked}")]
    OtherWorkload {
        /// What is asked for.
        asked: Workload,
    },
    /// A slot has too little context.
    #[error("has {ctx_max} tokens of context, the task needs {needed}")]
    TooLittleContext {
        /// What a slot has, tokens.
        ctx_max: u32,
        /// What the task needs, tokens.
        needed: u32,
    },
    /// It does not promise reproducible output.
    #[error("does not promise reproducible output")]
    NotDeterministic,
    /// It runs on other GPUs than the required ones.
    #[error("does not run on exactly the required GPUs")]
    OtherDevices,
    /// Another pool is pinned.
    #[error("is not the pinned one")]
    NotPinned,
    /// Others are preferred, without fallback.
    #[error("is not a preferred one")]
    NotPreferred,
    /// The task avoids it, without fallback.
    #[error("is one the task avoids")]
    Avoided,
    /// It refuses new work on purpose.
    #[error("is draining")]
    Draining,
    /// It is not heard of, stopped or given up.
    #[error("is down")]
    Down,
}

impl Refused {
    pub(super) fn new(job: &JobSpec, pools: &[PoolView], counts: &FilterCounts) -> Self {
        let mut named: Vec<Infeasible> = pools
            .iter()
            .filter(|pool| is_asked_for(job, pool))
            .filter_map(|pool| Infeasible::of(job, pool))
            .collect();
        named.sort_unstable_by(|a, b| a.pool_id.cmp(&b.pool_id));
        Self {
            refusal: Refusal::new(job, pools, counts.emptied_by()),
            pools: named,
        }
    }
}

/// The pools a message is about: those the request binds itself to, else those of the model.
fn is_asked_for(job: &JobSpec, pool: &PoolView) -> bool {
    let placement = &job.needs.placement;
    if let Some(pinned) = &placement.pin_pool_id {
        pinned == &pool.pool_id
    } else if Filter::Preferred.concerns(job) {
        placement.prefer_pools.contains(&pool.pool_id)
    } else {
        pool.offers(&job.needs.model_ref)
    }
}

impl Refusal {
    fn new(job: &JobSpec, pools: &[PoolView], emptied_by: Option<Filter>) -> Self {
        match emptied_by {
            Some(Filter::Model) => Self::UnknownModel {
                model_ref: job.needs.model_ref.clone(),
            },
            Some(Filter::Context) => Self::ContextTooLarge {
                needed: job.ctx_tokens,
                largest: largest_context(job, pools),
            },
            Some(Filter::Determinism) => Self::NoDeterministicPool,
            Some(Filter::Pin) => Self::pinned(job, pools),
            Some(Filter::Preferred) => Self::NoPreferredFeasible,
            Some(Filter::Draining | Filter::Down) => Self::NotReady,
            None | Some(Filter::Engine | Filter::Workload | Filter::DeviceMask | Filter::Avoided) => {
                Self::NoFeasiblePool
            }
        }
    }

    fn pinned(job: &JobSpec, pools: &[PoolView]) -> Self {
        let Some(pool_id) = job.needs.placement.pin_pool_id.clone() else {
            return Self::NoFeasiblePool;
        };
        if pools.iter().any(|pool| pool.pool_id == pool_id) {
            Self::PinnedPoolInfeasible { pool_id }
        } else {
            Self::PinnedPoolUnknown { pool_id }
        }
    }

    /// The code clients see.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownModel { .. } => ErrorCode::NotFound,
            Self::ContextTooLarge { .. } => ErrorCode::InvalidParams,
            Self::NotReady => ErrorCode::PoolUnready,
            Self::NoDeterministicPool
            | Self::PinnedPoolInfeasible { .. }
            | Self::PinnedPoolUnknown { .. }
            | Self::NoPreferredFeasible
            | Self::NoFeasiblePool => ErrorCode::PoolUnavailable,
        }
    }

    /// The machine-readable reason inside the code.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } => "unknown_model",
            Self::ContextTooLarge { .. } => "context_too_large",
            Self::NoDeterministicPool => "no_deterministic_pool",
            Self::PinnedPoolInfeasible { .. } | Self::PinnedPoolUnknown { .. } => "pinned_pool_infeasible",
            Self::NoPreferredFeasible => "no_preferred_feasible",
            Self::NoFeasiblePool => "no_feasible_pool",
            Self::NotReady => "not_ready",
        }
    }
}

/// The most context among the pools that have too little and are right otherwise so far.
fn largest_context(job: &JobSpec, pools: &[PoolView]) -> u32 {
    let too_small = pools
        .iter()
        .filter(|pool| Filter::first_failed(job, pool) == Some(Filter::Context));
    too_small.map(|pool| pool.ctx_max).max().unwrap_or(0)
}

impl Why {
    fn new(filter: Filter, job: &JobSpec, pool: &PoolView) -> Self {
        match filter {
            Filter::Model => Self::OtherModel {
                serves: pool.model_id.clone(),
            },
            Filter::Engine => Self::OtherEngine {
                engine: pool.engine,
                asked: job.needs.engine.unwrap_or(pool.engine),
            },
            Filter::Workload => Self::OtherWorkload {
                asked: job.needs.workload,
            },
            Filter::Context => Self::TooLittleContext {
                ctx_max: pool.ctx_max,
                needed: job.ctx_tokens,
            },
            Filter::Determinism => Self::NotDeterministic,
            Filter::DeviceMask => Self::OtherDevices,
            Filter::Pin => Self::NotPinned,
            Filter::Preferred => Self::NotPreferred,
            Filter::Avoided => Self::Avoided,
            Filter::Draining => Self::Draining,
            Filter::Down => Self::Down,
        }
    }
}

impl Infeasible {
    /// What is wrong with the pool; `None` if it is a candidate.
    #[must_use]
    pub fn of(job: &JobSpec, pool: &PoolView) -> Option<Self> {
        let filter = Filter::first_failed(job, pool)?;
        Some(Self {
            pool_id: pool.pool_id.clone(),
            why: Why::new(filter, job, pool),
        })
    }
}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {} {}", self.pool_id, self.why)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(f)?;
        for (i, pool) in self.pools.iter().take(NAMED_POOLS).enumerate() {
            write!(f, "{}{pool}", if i == 0 { ": " } else { "; " })?;
        }
        match self.pools.len().saturating_sub(NAMED_POOLS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
