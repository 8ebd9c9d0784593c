//! One play: when each slot of each pool frees, and the interactive tasks that will come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use api_types::{ModelId, PoolId, Priority};

use super::draw::mix;
use super::forecast::Asked;
use super::model::Measured;
use super::service::Demand;

/// Interactive tasks to come that a play lets pass at most, before all its batch tasks together.
const MOST_PASSED: usize = 1024;

/// Stands for "not known when": sorts after every known time, and adding to it leaves it there.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// When each slot of each pool frees.
#[derive(Debug, Clone)]
pub(super) struct Play {
    pools: Vec<BinaryHeap<Reverse<u64>>>,
    /// When the next interactive task of each stream comes.
    coming: Vec<u64>,
    /// How many have come.
    pub(super) passed: usize,
    /// Where this play is in its own sequence of numbers.
    rolled: u64,
}

/// Interactive tasks that will come.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pause_ms: f64,
    demand: Demand,
    pools: Vec<usize>,
}

/// The streams of interactive tasks whose rate was measured.
pub(super) fn streams(measured: &Measured, pools: &[(PoolId, ModelId)], now_ms: u64) -> Vec<Stream> {
    let of_model = |wanted: &ModelId| -> Vec<usize> {
        let serving = pools.iter().enumerate().filter(|(_, (_, model))| model == wanted);
        serving.map(|(pool, _)| pool).collect()
    };
    let rates = measured.arrivals.iter();
    rates
        .filter_map(|(model, rate)| {
            Some(Stream {
                pause_ms: rate.pause_ms(now_ms)?,
                demand: Demand {
                    class: Priority::Interactive,
                    tokens_in: rate.tokens_in(),
                    ..Demand::default()
                },
                pools: of_model(model),
            })
        })
        .filter(|stream| !stream.pools.is_empty())
        .collect()
}

impl Play {
    /// A play without slots yet.
    pub(super) fn new(index: usize, pools: usize, streams: &[Stream], now_ms: u64) -> Self {
        let mut play = Self {
            pools: vec![BinaryHeap::new(); pools],
            coming: Vec::with_capacity(streams.len()),
            passed: 0,
            // Far apart, so that no two plays share a number.
            rolled: (index as u64) << 32,
        };
        for stream in streams {
            let pause = -(1.0 - play.roll()).ln() * stream.pause_ms;
            play.coming.push(later(now_ms, pause));
        }
        play
    }

    /// A slot of a pool frees then.
    pub(super) fn add_slot(&mut self, pool: usize, free_at: u64) {
        self.pools[pool].push(Reverse(free_at));
    }

    /// The feasible pool whose slot frees first, the earlier in the list of equals.
    pub(super) fn first_free(&self, pools: &[usize]) -> Option<(usize, u64)> {
        let free = pools
            .iter()
            .filter_map(|&pool| Some((pool, self.pools.get(pool)?.peek()?.0)));
        free.min_by_key(|&(_, at)| at)
    }

    /// When the first slot of any pool frees.
    pub(super) fn first_of_all(&self) -> Option<u64> {
        self.pools.iter().filter_map(|slots| Some(slots.peek()?.0)).min()
    }

    /// The slot of a pool that frees first is taken until then.
    pub(super) fn take(&mut self, pool: usize, until: u64) {
        if let Some(mut slot) = self.pools[pool].peek_mut() {
            slot.0 = until;
        }
    }

    /// Interactive tasks that will have come by the time a batch task could start go before it. Once
    /// it is aged they take turns, so one at most. Tells when the batch task starts at the earliest:
    /// where more come than the slots can take, that is when it is aged.
    pub(super) fn let_pass(
        &mut self,
        measured: &Measured,
        pools: &[(PoolId, ModelId)],
        streams: &[Stream],
        task: &Asked<'_>,
    ) -> u64 {
        let mut passed_when_aged = false;
        while let Some((_, start)) = self.first_free(task.pools)
            && start != UNKNOWN
        {
            let due = (0..streams.len()).filter(|&i| self.coming[i] <= start);
            let Some(stream) = due.min_by_key(|&i| self.coming[i]) else {
                break;
            };
            if start >= task.aged_at_ms && std::mem::replace(&mut passed_when_aged, true) {
                break;
            }
            if self.passed >= MOST_PASSED {
                return task.aged_at_ms;
            }
            if !self.arrive(measured, pools, &streams[stream], stream) {
                break;
            }
        }
        0
    }

    /// One task of a stream comes and takes its slot; `false` if its length is not known.
    fn arrive(
        &mut self,
        measured: &Measured,
        pools: &[(PoolId, ModelId)],
        stream: &Stream,
        index: usize,
    ) -> bool {
        self.passed += 1;
        let at = self.coming[index];
        let pause = -(1.0 - self.roll()).ln() * stream.pause_ms;
        self.coming[index] = later(at, pause.max(1.0));
        let Some((pool, free_at)) = self.first_free(&stream.pools) else {
            return false;
        };
        let (pool_id, model) = &pools[pool];
        let length = measured.length(model, &stream.demand);
        let lasts = length.tokens(0, self.roll()).and_then(|tokens| {
            measured
                .stats(pool_id, model)?
                .service_of(stream.demand.tokens_in, tokens, 0.0)
        });
        let Some(lasts) = lasts else { return false };
        self.take(pool, later(free_at.max(at), lasts));
        true
    }

    /// The play's own fixed sequence of numbers in [0, 1).
    fn roll(&mut self) -> f64 {
        self.rolled = self.rolled.wrapping_add(1);
        (mix(self.rolled) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Float to integer conversion saturates.
pub(super) fn later(at: u64, ms: f64) -> u64 {
    at.saturating_add(ms.max(0.0).round() as u64)
}
