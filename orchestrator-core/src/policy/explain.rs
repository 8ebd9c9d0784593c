//! One plain sentence per decision, for the narration.

use api_types::PoolId;

use super::decision::{Outcome, PlacementDecision, PlacementInput, WaitReason};
use super::pool::PoolView;
use super::refusal::Refusal;
use super::score::ScoreField;

/// No sentence is longer, in characters.
pub const MAX_SENTENCE: usize = 100;

/// Longer pool names are cut, so that the sentence keeps its bound.
const MAX_NAME: usize = 24;

/// Says in present tense where the task goes and why, in at most [`MAX_SENTENCE`] characters.
/// Names the pool and nothing else of the request.
#[must_use]
pub fn explain(input: &PlacementInput<'_>, decision: &PlacementDecision) -> String {
    match &decision.outcome {
        Outcome::Placed { pool_id } => {
            format!(
                "Starts on {}: {}.",
                name(pool_id),
                because(input, decision, pool_id)
            )
        }
        Outcome::Wait { pool_id, because } => {
            format!(
                "Waits for {}: {}.",
                name(pool_id),
                waiting(input, pool_id, *because)
            )
        }
        Outcome::Refused(refused) => format!("Is refused: {}.", refusing(&refused.refusal)),
    }
}

fn name(pool: &PoolId) -> String {
    let text = pool.as_str();
    match text.get(..MAX_NAME) {
        // Ids are ASCII, so any byte is a boundary.
        Some(start) if text.len() > MAX_NAME => format!("{start}…"),
        _ => text.to_owned(),
    }
}

fn because(input: &PlacementInput<'_>, decision: &PlacementDecision, chosen: &PoolId) -> String {
    if decision.log.pinned {
        return "the request pins this pool".into();
    }
    let Some(decisive) = decision.log.tie_breakers_applied.last() else {
        return "it is the only pool that can serve it".into();
    };
    let fallback = decision.log.fallback_used;
    match (decisive, input.snapshot.pool(chosen)) {
        (ScoreField::Availability, _) if fallback => {
            "it has a free slot and the wanted pools have none".into()
        }
        (ScoreField::Availability | ScoreField::PredictedStart, _) => {
            "only this pool has a free slot now".into()
        }
        (ScoreField::OverrideRank, _) => "the request prefers it to the others".into(),
        (ScoreField::SessionWarmth, _) => "it served this session before".into(),
        (ScoreField::DecodeSpeed, Some(pool)) => speed(pool),
        (ScoreField::Load, Some(pool)) => {
            format!("{} of its {} slots are free", pool.slots_free, pool.slots_total)
        }
        (ScoreField::FreeVram, Some(pool)) => vram(pool),
        (ScoreField::PoolId, _) | (_, None) => "it comes first by name among equals".into(),
    }
}

fn speed(pool: &PoolView) -> String {
    match pool.decode_mtps {
        Some(mtps) => format!("it decodes fastest, {} tokens/s", tenths(mtps, 1000)),
        None => "its speed is not measured yet, this run will tell".into(),
    }
}

fn vram(pool: &PoolView) -> String {
    let free = pool.vram_free_bytes.unwrap_or(0);
    format!("it has the most free GPU memory, {} GiB", tenths(free, 1 << 30))
}

fn waiting(input: &PlacementInput<'_>, chosen: &PoolId, because: WaitReason) -> String {
    let predicted = input
        .snapshot
        .pool(chosen)
        .and_then(|pool| pool.predicted_free_ms);
    match (because, predicted) {
        (WaitReason::Busy, Some(ms)) => format!("a slot frees there in about {} s", tenths(ms, 1000)),
        (WaitReason::Busy, None) => "every slot that could serve it is taken".into(),
        (WaitReason::Starting, Some(ms)) => format!("it is ready in about {} s", tenths(ms, 1000)),
        (WaitReason::Loadable, _) => "it has to load the model first".into(),
        (WaitReason::Starting, None) => "no pool that could serve it is ready yet".into(),
    }
}

const fn refusing(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownModel { .. } => "no pool serves this model",
        Refusal::ContextTooLarge { .. } => "it needs more context than any pool of this model has",
        Refusal::NoDeterministicPool => "no feasible pool promises reproducible output",
        Refusal::PinnedPoolInfeasible { .. } => "the pinned pool cannot serve it",
        Refusal::PinnedPoolUnknown { .. } => "there is no pool of the pinned name",
        Refusal::NoPreferredFeasible => "no preferred pool can serve it and no other is allowed",
        Refusal::NoFeasiblePool => "no pool can serve it",
        Refusal::NotReady => "no pool that can serve it is ready",
    }
}

/// `value / unit` with one decimal.
fn tenths(value: u64, unit: u64) -> String {
    let tenths = u128::from(value) * 10 / u128::from(unit);
    format!("{}.{}", tenths / 10, tenths % 10)
}
