//! Which pool takes a task, and why. [`decide`] is a pure function of [`PlacementInput`]
//! (ORCH-3900, ORCH-3960): the same input gives the same decision, in whatever order the pools
//! are listed, so a stored input replays to its decision.
//!
//! # Steps
//! 1. **Feasibility** (ORCH-3411, ORCH-3901): what the pool is. Filters `model`, `engine`,
//!    `workload`, `context`, `determinism`.
//! 2. **Overrides** (ORCH-3902, ORCH-3903): what the request binds. Filters `device_mask`, `pin`,
//!    and, without fallback, `preferred` and `avoided`.
//! 3. **Condition**: what the pool can do now. Filters `draining` and `down`. A pool that is
//!    starting or loading stays: a task may wait for it.
//! 4. **Score** (ORCH-3904, ORCH-3905): the best of what is left, by the first field that differs.
//!
//! Each pool is counted at the first filter it fails. When none is left, the filter that removed
//! the last one names the refusal (ORCH-3906), so every refusal states the one thing to change.
//!
//! # Score, in order
//! | field | better | because |
//! |---|---|---|
//! | `availability` | a free slot | a task never waits while a feasible ready slot is free (ORCH-3254) |
//! | `override_rank` | preferred in the given order, then unnamed, then avoided | the request knows what it wants; with fallback it does not wait for it |
//! | `session_warmth` | the pool that served the session last | its KV cache still holds the prefix: no prefill |
//! | `predicted_start` | earlier; where it is unknown a busy pool, then one that starts, then one that has to load the model | the pool that frees first, or a load where that is sooner than any wait (REQ-MODEL-SWAP-COST) |
//! | `decode_speed` | the faster band, unmeasured first | a person reads at decode speed; within a band of a quarter octave the difference is noise; an unmeasured pool is tried once, else it would never be measured |
//! | `load` | the smaller used share of slots | slots of one engine share its speed |
//! | `free_vram` | more | room for longer contexts, and a good neighbour to other programs |
//! | `pool_id` | smaller | two different pools are never equal, so the answer is unique |

mod cache;
mod decision;
mod explain;
mod filter;
mod job;
mod pool;
mod record;
mod refusal;
mod score;

pub use cache::DecisionCache;
pub use decision::{DecisionLog, FilterApplied, Outcome, PlacementDecision, PlacementInput, WaitReason};
pub use explain::{MAX_SENTENCE, explain};
pub use filter::Filter;
pub use job::{JobSpec, Requirements};
pub use pool::{Loadable, NoFreeSlot, PoolView, Readiness, Snapshot};
pub use record::{DecisionRecord, Replay, Stage, Verdict, verdicts};
pub use refusal::{Infeasible, Refusal, Refused, Why};
pub use score::ScoreField;

use api_types::PlacementMode;

use filter::FilterCounts;
use score::Score;

/// Counts changes of the rules above. Part of every log and of any cache key: a decision made
/// under other rules may replay differently.
pub const POLICY_VERSION: u16 = 2;

/// Chooses a pool for one task.
#[must_use]
pub fn decide(input: &PlacementInput<'_>) -> PlacementDecision {
    let job = input.job.as_ref();
    let pools = input.snapshot.pools.as_slice();
    let mut counts = FilterCounts::default();
    let mut scores = Vec::with_capacity(pools.len());
    for pool in pools {
        match Filter::first_failed(job, pool) {
            Some(filter) => counts.count(filter),
            None => scores.push(Score::new(job, pool)),
        }
    }
    let winner = scores.iter().min();
    let log = DecisionLog {
        policy_version: POLICY_VERSION,
        snapshot_version: input.snapshot.version,
        filters_applied: counts.applied(job),
        candidates_considered: u32::try_from(scores.len()).unwrap_or(u32::MAX),
        tie_breakers_applied: winner.map_or_else(Vec::new, |winner| ScoreField::that_beat(winner, &scores)),
        pinned: job.needs.placement.mode == PlacementMode::Pin,
        fallback_used: winner.is_some_and(|winner| winner.is_fallback(job)),
    };
    let outcome = match winner {
        Some(winner) => outcome_of(winner),
        None => Outcome::Refused(Refused::new(job, pools, &counts)),
    };
    PlacementDecision { outcome, log }
}

/// Whether the pool could start the task at this moment: it passes every filter and has a free
/// slot. [`decide`] places a task exactly if this holds for some pool.
#[must_use]
pub fn can_start_now(job: &JobSpec, pool: &PoolView) -> bool {
    pool.has_free_slot() && pool.serves(&job.needs.model_ref) && Filter::first_failed(job, pool).is_none()
}

/// Whether the pool could ever serve the task, whatever its condition now. Tasks that share such
/// a pool compete.
#[must_use]
pub fn could_serve(job: &JobSpec, pool: &PoolView) -> bool {
    Filter::first_failed(job, pool).is_none_or(Filter::is_condition)
}

fn outcome_of(winner: &Score<'_>) -> Outcome {
    let pool_id = winner.pool_id.clone();
    match winner.start.waits {
        None => Outcome::Placed { pool_id },
        Some(because) => Outcome::Wait { pool_id, because },
    }
}
