//! How good a candidate is: a struct whose field order is the order of the tie-breaks.

use std::cmp::Reverse;

use api_types::{PlacementMode, PlacementOverrides, PoolId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::decision::WaitReason;
use super::job::JobSpec;
use super::pool::{Loadable, PoolView, Readiness};

/// Smaller is better; the derived order compares field by field from the top.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score<'a> {
    availability: Availability,
    override_rank: OverrideRank,
    session: Warmth,
    pub(super) start: Start,
    decode_speed: Reverse<Speed>,
    load_permille: u64,
    free_vram_bytes: Reverse<Option<u64>>,
    pub(super) pool_id: &'a PoolId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Availability {
    Free,
    Later,
}

/// When a pool can start a task, and what for it has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Start {
    /// From now, ms; unknown comes last: a measured wait is worth more than a hope.
    ms: u64,
    /// `None`: for nothing.
    pub(super) waits: Option<WaitReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum OverrideRank {
    /// Its place in the request's list.
    Preferred(usize),
    Unnamed,
    Avoided,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Warmth {
    Warm,
    Cold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Speed {
    /// Its band.
    Measured(u32),
    /// Counts as the fastest, so that every pool gets measured.
    Unmeasured,
}

impl Speed {
    /// Bands a quarter of an octave wide (14 to 25 %): two cards of the same kind never measure
    /// exactly alike, and the hair's breadth between them must not fill one before the other.
    fn new(mtps: u64) -> Self {
        let Some(octave) = mtps.checked_ilog2() else {
            return Self::Measured(0);
        };
        // The two bits below the leading one.
        let quarter = (u128::from(mtps) << 2 >> octave) as u32 & 3;
        Self::Measured(1 + octave * 4 + quarter)
    }
}

impl<'a> Score<'a> {
    pub(super) fn new(job: &JobSpec, pool: &'a PoolView) -> Self {
        let start = Start::of(job, pool);
        let availability = match start.waits {
            None => Availability::Free,
            Some(_) => Availability::Later,
        };
        Self {
            availability,
            override_rank: OverrideRank::of(&job.needs.placement, &pool.pool_id),
            session: Warmth::of(job, pool),
            start,
            decode_speed: Reverse(pool.decode_mtps.map_or(Speed::Unmeasured, Speed::new)),
            load_permille: load_permille(pool),
            free_vram_bytes: Reverse(pool.vram_free_bytes),
            pool_id: &pool.pool_id,
        }
    }

    /// Whether the request wanted another pool than this one.
    pub(super) fn is_fallback(&self, job: &JobSpec) -> bool {
        match self.override_rank {
            OverrideRank::Preferred(_) => false,
            OverrideRank::Unnamed => job.needs.placement.mode == PlacementMode::Prefer,
            OverrideRank::Avoided => true,
        }
    }

    /// Which field tells the two apart.
    fn first_difference(&self, other: &Self) -> Option<ScoreField> {
        let same = [
            self.availability == other.availability,
            self.override_rank == other.override_rank,
            self.session == other.session,
            self.start == other.start,
            self.decode_speed == other.decode_speed,
            self.load_permille == other.load_permille,
            self.free_vram_bytes == other.free_vram_bytes,
            self.pool_id == other.pool_id,
        ];
        let differs = same.iter().position(|same| !same)?;
        Some(ScoreField::ALL[differs])
    }
}

impl Start {
    fn of(job: &JobSpec, pool: &PoolView) -> Self {
        let (ms, waits) = match pool.would_load(&job.needs.model_ref) {
            Some(loadable) => (swapped_in(pool, loadable), Some(WaitReason::Loadable)),
            None => match pool.readiness {
                Readiness::Ready if pool.slots_free > 0 => (Some(0), None),
                Readiness::Ready => (pool.predicted_free_ms, Some(WaitReason::Busy)),
                // Draining and down pools are filtered out before anything is scored, and an unloaded one loads.
                Readiness::Starting | Readiness::Unloaded | Readiness::Draining | Readiness::Down => {
                    (pool.predicted_free_ms, Some(WaitReason::Starting))
                }
            },
        };
        Self {
            ms: ms.unwrap_or(u64::MAX),
            waits,
        }
    }
}

/// When a model that has to be loaded can serve: what runs has to end first (REQ-MODEL-SWAP-COST).
fn swapped_in(pool: &PoolView, loadable: &Loadable) -> Option<u64> {
    let runs = pool.readiness == Readiness::Ready && pool.slots_free < pool.slots_total;
    let free_in = if runs || pool.readiness == Readiness::Starting {
        pool.predicted_free_ms?
    } else {
        0
    };
    Some(free_in.saturating_add(loadable.load_ms?))
}

impl OverrideRank {
    fn of(placement: &PlacementOverrides, pool: &PoolId) -> Self {
        if placement.avoid_pools.contains(pool) {
            return Self::Avoided;
        }
        let place = placement
            .prefer_pools
            .iter()
            .position(|preferred| preferred == pool);
        place.map_or(Self::Unnamed, Self::Preferred)
    }
}

impl Warmth {
    fn of(job: &JobSpec, pool: &PoolView) -> Self {
        if job.last_pool.as_ref() == Some(&pool.pool_id) {
            Self::Warm
        } else {
            Self::Cold
        }
    }
}

fn load_permille(pool: &PoolView) -> u64 {
    let total = u64::from(pool.slots_total).max(1);
    let used = u64::from(pool.slots_total.saturating_sub(pool.slots_free));
    used * 1000 / total
}

/// A field of the score, in the order they are compared; see the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScoreField {
    /// A free slot or none.
    Availability,
    /// Preferred, unnamed or avoided.
    OverrideRank,
    /// Served the session last.
    SessionWarmth,
    /// When it can start the task.
    PredictedStart,
    /// Measured tokens per second.
    DecodeSpeed,
    /// Share of slots in use.
    Load,
    /// GPU memory nobody uses.
    FreeVram,
    /// The name.
    PoolId,
}

impl ScoreField {
    /// Every field in the order they are compared.
    pub const ALL: [Self; 8] = [
        Self::Availability,
        Self::OverrideRank,
        Self::SessionWarmth,
        Self::PredictedStart,
        Self::DecodeSpeed,
        Self::Load,
        Self::FreeVram,
        Self::PoolId,
    ];

    /// The fields by which the winner beat each of the others, in order. The last one is what
    /// tells it from the runner-up, who is equal to it up to there.
    pub(super) fn that_beat(winner: &Score<'_>, all: &[Score<'_>]) -> Vec<Self> {
        let mut decided = [false; Self::ALL.len()];
        for field in all.iter().filter_map(|score| winner.first_difference(score)) {
            decided[field as usize] = true;
        }
        Self::ALL
            .into_iter()
            .filter(|field| decided[*field as usize])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cmp::Ordering;

    fn score(fields: [u8; 7], pool_id: &PoolId) -> Score<'_> {
        let [availability, rank, session, start, speed, load, vram] = fields;
        Score {
            availability: [Availability::Free, Availability::Later][usize::from(availability)],
            override_rank: [OverrideRank::Preferred(0), OverrideRank::Unnamed][usize::from(rank)],
            session: [Warmth::Warm, Warmth::Cold][usize::from(session)],
            start: Start {
                ms: start.into(),
                waits: None,
            },
            decode_speed: Reverse([Speed::Unmeasured, Speed::Measured(1)][usize::from(speed)]),
            load_permille: load.into(),
            free_vram_bytes: Reverse([Some(1), None][usize::from(vram)]),
            pool_id,
        }
    }

    fn bits() -> impl Strategy<Value = [u8; 7]> {
        prop::array::uniform7(0u8..2)
    }

    proptest! {
        /// Every field above is drawn so that 0 is better than 1.
        /// ORCH-3905.
        #[test]
        fn the_first_difference_is_the_field_the_order_decides_by(a in bits(), b in bits()) {
            let ids = [PoolId::new("a").unwrap(), PoolId::new("b").unwrap()];
            let (left, right) = (score(a, &ids[0]), score(b, &ids[1]));
            let differs = (0..7).find(|i| a[*i] != b[*i]);
            let expected = differs.map_or(ScoreField::PoolId, |i| ScoreField::ALL[i]);
            prop_assert_eq!(left.first_difference(&right), Some(expected));
            let order = differs.map_or(Ordering::Less, |i| a[i].cmp(&b[i]));
            prop_assert_eq!(left.cmp(&right), order);
        }
    }
}
