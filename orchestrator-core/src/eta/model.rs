//! Everything that was measured, and what it says about one task on one pool.

use std::collections::BTreeMap;

use api_types::{ModelId, PoolId};

use super::arrivals::Arrivals;
use super::ewma::Ewma;
use super::lengths::{Lengths, Window};
use super::service::{Demand, Observation, ServiceStats, ServiceTimes};

/// Below this many tokens a run's own pace says less than that of the runs before it.
const OWN_PACE_TOKENS: u32 = 16;

/// What was measured: speeds per pool and model, outputs per model, load times per pool and model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    times: ServiceTimes,
    lengths: Lengths,
    pub(super) arrivals: Arrivals,
    loads: BTreeMap<PoolId, BTreeMap<ModelId, Ewma>>,
}

/// A running task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its size as far as known beforehand.
    pub demand: Demand,
    /// Since it got its slot, ms.
    pub elapsed_ms: u64,
    /// Tokens it has generated.
    pub generated: u32,
    /// From its first token to its last so far, ms.
    pub decode_ms: u64,
    /// Since its last token, ms; 0 before the first.
    pub idle_ms: u64,
}

impl Measured {
    /// Learns from one finished run.
    pub fn observe(&mut self, pool: &PoolId, model: &ModelId, demand: &Demand, run: &Observation) {
        self.times.observe(pool, model, run);
        self.lengths
            .add(model, demand.class, demand.max_out, run.tokens_out);
    }

    /// An interactive task for a model has come.
    pub fn arrived(&mut self, model: &ModelId, now_ms: u64, tokens_in: u32) {
        self.arrivals.add(model, now_ms, tokens_in);
    }

    /// Learns how long an engine took from its start until it was ready, ms.
    pub fn loaded(&mut self, pool: &PoolId, model: &ModelId, took_ms: u64) {
        let models = self.loads.entry(pool.clone()).or_default();
        models.entry(model.clone()).or_default().add(took_ms as f64);
    }

    /// When an engine that was started so long ago will be ready, ms from now; `None` until a load
    /// of it was measured. One that is overdue is expected to take as long again as loads
    /// typically differ.
    #[must_use]
    pub fn ready_in_ms(&self, pool: &PoolId, model: &ModelId, started_ms_ago: u64) -> Option<u64> {
        let load = self.loads.get(pool)?.get(model)?;
        let left = load.mean()? - started_ms_ago as f64;
        let left = if left > 0.0 {
            left
        } else {
            load.spread().unwrap_or(0.0)
        };
        Some(left.round() as u64)
    }

    /// What runs of a model on a pool have shown; `None` before the first.
    #[must_use]
    pub fn stats(&self, pool: &PoolId, model: &ModelId) -> Option<&ServiceStats> {
        self.times.stats(pool, model)
    }

    /// Forgets pools and models that are gone.
    pub fn retain(&mut self, keep: impl Fn(&PoolId) -> bool, keep_model: impl Fn(&ModelId) -> bool) {
        self.arrivals.retain(&keep_model);
        self.loads.retain(|pool, _| keep(pool));
        self.times.retain(keep);
        self.lengths.retain(keep_model);
    }

    /// The middle of what is left of a running task, ms; `None` until measured.
    #[must_use]
    pub fn remaining_ms(&self, pool: &PoolId, model: &ModelId, running: &Running) -> Option<u64> {
        let length = self.length(model, &running.demand);
        let left =
            self.stats(pool, model)?
                .remaining_ms(running, length.tokens(running.generated, 0.5)?, 0.0)?;
        Some(left.round() as u64)
    }

    pub(super) fn length(&self, model: &ModelId, demand: &Demand) -> Length<'_> {
        Length {
            told: demand.expected_out,
            most: demand.max_out,
            seen: self.lengths.of(model, demand.class, demand.max_out),
        }
    }
}

/// How long the output of a task may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length<'m> {
    told: Option<u32>,
    most: Option<u32>,
    seen: Option<&'m Window>,
}

impl Length<'_> {
    /// The output below which the share `quantile` of such tasks ends, given that it goes beyond
    /// `above` tokens; `None` when nothing is known.
    pub(super) fn tokens(&self, above: u32, quantile: f64) -> Option<f64> {
        let told = self.told.filter(|told| *told > above).map(f64::from);
        let tokens = match (told, self.seen) {
            (Some(told), _) => told,
            (None, Some(seen)) => seen.beyond(above, quantile),
            // It has outrun what its client told, and nothing else is known.
            (None, None) => f64::from(self.told?.max(above)) * (1.0 + quantile),
        };
        Some(
            self.most
                .map_or(tokens, |most| tokens.min(f64::from(most.max(above)))),
        )
    }
}

impl ServiceStats {
    /// How long a task of so many tokens takes, ms.
    pub(super) fn service_of(&self, tokens_in: u32, tokens: f64, z: f64) -> Option<f64> {
        Some(self.first_ms(tokens_in, z)? + self.steps_ms(tokens - 1.0, z)?)
    }

    /// How long a running task of so many tokens goes on, ms: from its progress, at its own pace
    /// once that is known.
    pub(super) fn remaining_ms(&self, running: &Running, tokens: f64, z: f64) -> Option<f64> {
        if running.generated == 0 {
            let first = self.first_ms(running.demand.tokens_in, z)?;
            let steps = self.steps_ms(tokens - 1.0, z)?;
            return Some(overdue(first, running.elapsed_ms as f64) + steps);
        }
        let steps = tokens - f64::from(running.generated);
        let left = if running.generated >= OWN_PACE_TOKENS && running.decode_ms > 0 {
            steps * running.decode_ms as f64 / f64::from(running.generated - 1)
        } else {
            self.steps_ms(steps, z)?
        };
        Some((left - running.idle_ms as f64).max(0.0))
    }
}

/// What is left of something that takes so long, after so long. What is late is late for a reason:
/// it is expected to go on for a tenth of what it has taken.
fn overdue(takes: f64, elapsed: f64) -> f64 {
    let left = takes - elapsed;
    if left > 0.0 { left } else { elapsed / 10.0 }
}
