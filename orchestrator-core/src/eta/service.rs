//! How fast each pool serves each model, learned from finished runs.

use std::collections::BTreeMap;

use api_types::pool::PerfHints;
use api_types::{ModelId, PoolId, Priority};
use serde::{Deserialize, Serialize};

use super::ewma::Ewma;
use super::line::Line;

/// What one finished run showed. Only runs the engine ended by itself teach anything: a cancelled
/// one says nothing about length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Prompt tokens the engine computed; tokens it took from its KV cache cost nothing and are
    /// not counted.
    pub tokens_in: u32,
    /// Generated tokens; 0 for embeddings and scores.
    pub tokens_out: u32,
    /// Slot to first token, or to the whole result where there are no tokens, ms.
    pub first_token_ms: u64,
    /// First token to last, ms.
    pub decode_ms: u64,
}

impl Observation {
    /// Tokens per ms, where both were seen.
    fn prefill_rate(&self) -> Option<f64> {
        let seen = self.tokens_in > 0 && self.first_token_ms > 0;
        seen.then(|| f64::from(self.tokens_in) / self.first_token_ms as f64)
    }

    /// ms per step. The first token belongs to prefill, so `n` tokens are `n − 1` decode steps.
    fn step_ms(&self) -> Option<f64> {
        let steps = self.tokens_out.saturating_sub(1);
        (steps > 0 && self.decode_ms > 0).then(|| self.decode_ms as f64 / f64::from(steps))
    }
}

/// What is known beforehand about a task's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Its class: tasks of one class are alike in length.
    pub class: Priority,
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Tokens the client expects; else what tasks of its kind generated is taken.
    pub expected_out: Option<u32>,
    /// Most tokens it may generate.
    pub max_out: Option<u32>,
}

/// What runs of one model on one pool have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServiceStats {
    prefill: Ewma,
    first_token: Line,
    step_ms: Ewma,
    service_ms: Ewma,
}

impl ServiceStats {
    /// Learns from one finished run.
    pub fn observe(&mut self, run: &Observation) {
        if let Some(rate) = run.prefill_rate() {
            self.prefill.add(rate);
        }
        if let Some(step) = run.step_ms() {
            self.step_ms.add(step);
        }
        self.first_token
            .add(f64::from(run.tokens_in), run.first_token_ms as f64);
        self.service_ms
            .add(run.first_token_ms.saturating_add(run.decode_ms) as f64);
    }

    /// Decode speed of one slot, thousandths of a token per second; `None` until measured.
    #[must_use]
    pub fn decode_mtps(&self) -> Option<u64> {
        let step = self.step_ms.mean().filter(|ms| *ms > 0.0)?;
        // Float to integer conversion saturates.
        Some((1e6 / step).round() as u64)
    }

    /// Both speeds for people, tokens per second.
    #[must_use]
    pub fn perf_hints(&self) -> PerfHints {
        PerfHints {
            prefill_tps: self.prefill.mean().map(|per_ms| per_ms * 1e3),
            decode_tps: self.decode_mtps().map(|mtps| mtps as f64 / 1e3),
        }
    }

    /// Duration of a run, ms.
    #[must_use]
    pub const fn service_ms(&self) -> &Ewma {
        &self.service_ms
    }

    /// How long a task of this size takes to its first token, ms; `None` before the first run.
    /// `z` tells how far from the mean, in spreads.
    pub(super) fn first_ms(&self, tokens_in: u32, z: f64) -> Option<f64> {
        let mean = self.first_token.at(f64::from(tokens_in))?;
        Some(mean * (1.0 + self.first_token.relative_spread() * z).max(0.0))
    }

    /// How long so many decode steps take, ms; the mean duration of all runs where no step was
    /// ever seen; `None` before the first run.
    pub(super) fn steps_ms(&self, steps: f64, z: f64) -> Option<f64> {
        if steps <= 0.0 {
            return Some(0.0);
        }
        let (mean, spread) = match self.step_ms.mean() {
            Some(step) => (step * steps, self.step_ms.relative_spread()),
            None => (self.service_ms.mean()?, self.service_ms.relative_spread()),
        };
        Some(mean * (1.0 + spread * z).max(0.0))
    }
}

/// What runs have shown, per pool and model. Holds one entry per pair that ever finished a run;
/// pools and models come from configuration, so it stays small.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ServiceTimes {
    pools: BTreeMap<PoolId, BTreeMap<ModelId, ServiceStats>>,
}

impl ServiceTimes {
    pub(super) fn observe(&mut self, pool: &PoolId, model: &ModelId, run: &Observation) {
        let models = self.pools.entry(pool.clone()).or_default();
        models.entry(model.clone()).or_default().observe(run);
    }

    pub(super) fn stats(&self, pool: &PoolId, model: &ModelId) -> Option<&ServiceStats> {
        self.pools.get(pool)?.get(model)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&PoolId) -> bool) {
        self.pools.retain(|pool, _| keep(pool));
    }
}
