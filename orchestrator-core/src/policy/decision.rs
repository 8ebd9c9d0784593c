//! What goes into a decision and what comes out, as data to store and replay (ORCH-3962).

use std::borrow::Cow;

use api_types::PoolId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::filter::Filter;
use super::job::JobSpec;
use super::pool::Snapshot;
use super::refusal::Refused;
use super::score::ScoreField;

/// Everything a decision depends on. Borrowed to decide, owned when read back from storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacementInput<'a> {
    /// The task.
    pub job: Cow<'a, JobSpec>,
    /// The pools.
    pub snapshot: Cow<'a, Snapshot>,
}

impl<'a> PlacementInput<'a> {
    /// Borrows both parts.
    #[must_use]
    pub const fn new(job: &'a JobSpec, snapshot: &'a Snapshot) -> Self {
        Self {
            job: Cow::Borrowed(job),
            snapshot: Cow::Borrowed(snapshot),
        }
    }
}

/// The answer and how it was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacementDecision {
    /// Where the task goes.
    pub outcome: Outcome,
    /// How that was reached.
    pub log: DecisionLog,
}

/// Where a task goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A slot of this pool is free for it now.
    Placed {
        /// The pool.
        pool_id: PoolId,
    },
    /// No feasible slot is free; it may wait.
    Wait {
        /// The pool that is expected to take it; a prediction, not a reservation.
        pool_id: PoolId,
        /// What it waits for.
        because: WaitReason,
    },
    /// It cannot be served as things are.
    Refused(Refused),
}

impl Outcome {
    /// The chosen or expected pool.
    #[must_use]
    pub const fn pool_id(&self) -> Option<&PoolId> {
        match self {
            Self::Placed { pool_id } | Self::Wait { pool_id, .. } => Some(pool_id),
            Self::Refused(_) => None,
        }
    }

    /// The wire name; also the metric label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Placed { .. } => "placed",
            Self::Wait { .. } => "wait",
            Self::Refused(_) => "refused",
        }
    }
}

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// Every slot of the ready feasible pools is leased.
    Busy,
    /// The pool is starting, and no feasible one is sooner.
    Starting,
    /// The pool has to load the model, and no feasible one is sooner.
    Loadable,
}

/// How a decision was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecisionLog {
    /// The rules it was made by, [`super::POLICY_VERSION`].
    pub policy_version: u16,
    /// The snapshot it was made on.
    pub snapshot_version: u64,
    /// The filters that concerned the task, in order, with the pools each removed.
    pub filters_applied: Vec<FilterApplied>,
    /// Pools that passed all filters.
    pub candidates_considered: u32,
    /// The score fields by which the chosen pool beat the others, in order; the last one tells it
    /// from the runner-up. Empty with fewer than two candidates.
    pub tie_breakers_applied: Vec<ScoreField>,
    /// Whether the request pinned a pool.
    pub pinned: bool,
    /// Whether the request wanted another pool than the chosen one.
    pub fallback_used: bool,
}

/// One filter and what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilterApplied {
    /// The filter.
    pub filter: Filter,
    /// Pools that passed all filters before it and failed this one.
    pub removed: u32,
}
