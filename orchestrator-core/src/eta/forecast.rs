//! Plays the waiting tasks through the slots on paper, several times.
//!
//! How long a task takes is not one number: most end early, some run to their limit. So the queue
//! is played up to [`MOST_PLAYS`] times, fewer where there is much to play, each time with other lengths and speeds drawn from what was
//! measured; a prediction is the middle of the plays, the chance to be on time is the share of
//! plays that are. Nothing is random: the draws are fixed strata, each used once per task, paired
//! differently for every task. Playing means only would be wrong: with many slots the first one to
//! free frees well before the middle of any.
//!
//! Costs O(plays · (slots + tasks · feasible pools · log slots)).

use api_types::{ModelId, PoolId, Priority};

use super::draw::Draw;
use super::model::{Measured, Running};
use super::outlook::{Outlook, Visit, outlook};
use super::play::{Play, Stream, UNKNOWN, later, streams};
use super::service::Demand;
use super::sizes::Sizes;

/// Plays of a forecast of little work; a power of two, as are all counts of plays.
pub(super) const MOST_PLAYS: usize = 32;

/// Plays of a forecast of much work. Over many tasks the chances of each even out.
const LEAST_PLAYS: usize = 4;

/// Placing a task costs as much as looking at so many pools, whatever their number (`benches/eta.rs`).
const LOOKS_PER_TASK: usize = 12;

/// Looks that are afforded for more than the least plays: about 5 ms.
const LOOKS_FOR_PLAYS: usize = 450_000;

/// Looks that are afforded at all: about 14 ms.
const MOST_LOOKS: usize = 1_000_000;

/// Tasks that are played at most. Further ones would be too far away for an honest prediction.
const MOST_TASKS: usize = 4096;

/// The slots of one pool as a forecast starts from them.
#[derive(Debug, Clone)]
pub struct PoolSlots<'a> {
    /// The pool.
    pub pool_id: &'a PoolId,
    /// What it serves.
    pub model_id: &'a ModelId,
    /// Slots without a lease.
    pub free: u32,
    /// The tasks on the others.
    pub running: Vec<Running>,
    /// When slots that do not exist yet will, for each: an engine is being started. ms from now.
    pub coming: Vec<Option<u64>>,
}

/// The slots after the tasks placed so far, in every play.
#[derive(Debug, Clone)]
pub struct Forecast {
    now_ms: u64,
    pools: Vec<(PoolId, ModelId)>,
    streams: Vec<Stream>,
    plays: Vec<Play>,
    /// Tasks drawn so far.
    drawn: u64,
}

/// A task to place.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its size.
    pub demand: &'a Demand,
    /// When it must have ended, on the forecast's clock.
    pub deadline_at_ms: Option<u64>,
    /// From when on a batch task takes turns with interactive ones, on the forecast's clock.
    pub aged_at_ms: u64,
    /// The pools that could serve it: indexes into the pools that the forecast was made of,
    /// the one that is taken first among free ones first.
    pub pools: &'a [usize],
}

impl Forecast {
    /// The slots as they are, for about so many tasks to place.
    #[must_use]
    pub fn new<'a>(
        measured: &Measured,
        now_ms: u64,
        pools: impl IntoIterator<Item = PoolSlots<'a>>,
        tasks: usize,
    ) -> Self {
        let pools: Vec<PoolSlots<'_>> = pools.into_iter().collect();
        let ids: Vec<_> = pools
            .iter()
            .map(|slots| (slots.pool_id.clone(), slots.model_id.clone()))
            .collect();
        let streams = streams(measured, &ids, now_ms);
        let plays = 0..plays_for(pools.len(), tasks);
        let mut forecast = Self {
            now_ms,
            plays: plays
                .map(|play| Play::new(play, pools.len(), &streams, now_ms))
                .collect(),
            pools: ids,
            streams,
            drawn: 0,
        };
        for (pool, slots) in pools.iter().enumerate() {
            forecast.add_pool(measured, pool, slots);
        }
        forecast
    }

    fn add_pool(&mut self, measured: &Measured, pool: usize, slots: &PoolSlots<'_>) {
        let now_ms = self.now_ms;
        let coming = |ms: &Option<u64>| ms.map_or(UNKNOWN, |ms| now_ms.saturating_add(ms));
        for play in &mut self.plays {
            (0..slots.free).for_each(|_| play.add_slot(pool, now_ms));
            slots
                .coming
                .iter()
                .map(coming)
                .for_each(|at| play.add_slot(pool, at));
        }
        let stats = measured.stats(slots.pool_id, slots.model_id);
        for running in &slots.running {
            let length = measured.length(slots.model_id, &running.demand);
            let draw = self.next_draw();
            for (index, play) in self.plays.iter_mut().enumerate() {
                let left = stats.and_then(|stats| {
                    let tokens = length.tokens(running.generated, draw.quantile(index))?;
                    stats.remaining_ms(running, tokens, draw.spreads(index))
                });
                let at = left.map_or(UNKNOWN, |ms| later(self.now_ms, ms));
                play.add_slot(pool, at);
            }
        }
    }

    /// Lets the next task take its slot in every play; tells when it starts and ends.
    pub fn place(&mut self, measured: &Measured, task: &Asked<'_>) -> Outlook {
        let draw = self.next_draw();
        let mut sizes = Sizes::new(&self.pools, measured, task.demand, draw);
        let mut visits = Vec::with_capacity(self.plays.len());
        for (index, play) in self.plays.iter_mut().enumerate() {
            let earliest = match task.demand.class {
                Priority::Batch => play.let_pass(measured, &self.pools, &self.streams, task),
                Priority::Interactive => 0,
            };
            let Some((pool, free_at)) = play.first_free(task.pools) else {
                continue;
            };
            let start = free_at.max(earliest);
            let lasts = sizes.service_ms(pool, index);
            let known = lasts.filter(|_| start != UNKNOWN);
            let end = known.map_or(UNKNOWN, |ms| later(start, ms));
            play.take(pool, end);
            visits.push(Visit { start, end });
        }
        outlook(&visits, task.deadline_at_ms)
    }

    /// About when the next task will start: the mean of a few plays. Never later than all of them.
    pub(super) fn next_start_ms(&self) -> u64 {
        let plays = self.plays.iter().step_by(self.plays.len().div_ceil(LEAST_PLAYS));
        let firsts: Vec<u64> = plays.filter_map(Play::first_of_all).collect();
        let known = firsts.iter().filter(|at| **at != UNKNOWN);
        let sum: u64 = known.clone().map(|at| at.saturating_sub(self.now_ms)).sum();
        self.now_ms.saturating_add(sum / (known.count() as u64).max(1))
    }

    const fn next_draw(&mut self) -> Draw {
        self.drawn += 1;
        Draw::new(self.drawn, self.plays.len())
    }
}

fn plays_for(pools: usize, tasks: usize) -> usize {
    let afforded = LOOKS_FOR_PLAYS / (tasks.max(1) * (LOOKS_PER_TASK + pools));
    // The power of two below.
    let plays = 1 << afforded.max(1).ilog2();
    plays.clamp(LEAST_PLAYS, MOST_PLAYS)
}

/// How many tasks can be played through so many pools.
pub(super) fn most_tasks(pools: usize) -> usize {
    (MOST_LOOKS / (LEAST_PLAYS * (LOOKS_PER_TASK + pools))).min(MOST_TASKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_bounded_and_small_work_is_done_well() {
        assert_eq!(plays_for(1, 256), MOST_PLAYS);
        assert_eq!(plays_for(64, 100), MOST_PLAYS);
        for pools in [1, 2, 64, 1000, 100_000] {
            let most = most_tasks(pools);
            for tasks in [0, 1, most / 2, most] {
                let plays = plays_for(pools, tasks);
                assert!(plays.is_power_of_two());
                assert!(
                    plays * tasks * (LOOKS_PER_TASK + pools) <= MOST_LOOKS,
                    "{pools} {tasks}"
                );
            }
        }
        assert_eq!(most_tasks(1), MOST_TASKS);
    }
}
