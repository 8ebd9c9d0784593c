//! How fast each pool serves each model, learned from finished runs.

use std::collections::BTreeMap;

use api_types::pool::PerfHints;
use api_types::{ModelId, PoolId};
use serde::{Deserialize, Serialize};

use super::ewma::Ewma;

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
    fn prefill_rate(&self) -> Option<f64> {
        rate(self.tokens_in, self.first_token_ms)
    }

    /// The first token belongs to prefill, so `n` tokens are `n − 1` decode steps.
    fn decode_rate(&self) -> Option<f64> {
        rate(self.tokens_out.saturating_sub(1), self.decode_ms)
    }
}

/// Tokens per ms, where both were seen.
fn rate(tokens: u32, ms: u64) -> Option<f64> {
    (tokens > 0 && ms > 0).then(|| f64::from(tokens) / ms as f64)
}

/// What is known beforehand about a task's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Prompt tokens.
    pub tokens_in: u32,
    /// Tokens the client expects; else what tasks generated on average is taken.
    pub expected_out: Option<u32>,
    /// Most tokens it may generate.
    pub max_out: Option<u32>,
}

/// An expected duration with its spread (one standard deviation), ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The duration.
    pub mean_ms: u64,
    /// How far off it typically is; 0 while one run only was seen.
    pub spread_ms: u64,
}

impl Expected {
    fn new(mean_ms: f64, spread_ms: f64) -> Self {
        // Float to integer conversion saturates; both are finite and not negative.
        Self {
            mean_ms: mean_ms.round() as u64,
            spread_ms: spread_ms.round() as u64,
        }
    }
}

/// What runs of one model on one pool have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServiceStats {
    prefill: Ewma,
    decode: Ewma,
    tokens_out: Ewma,
    service_ms: Ewma,
}

impl ServiceStats {
    /// Learns from one finished run.
    pub fn observe(&mut self, run: &Observation) {
        if let Some(rate) = run.prefill_rate() {
            self.prefill.add(rate);
        }
        if let Some(rate) = run.decode_rate() {
            self.decode.add(rate);
        }
        self.tokens_out.add(f64::from(run.tokens_out));
        self.service_ms
            .add(run.first_token_ms.saturating_add(run.decode_ms) as f64);
    }

    /// How long a task of this size holds a slot; `None` before the first run. Falls back to the
    /// mean duration of all runs where a speed it needs was never seen.
    #[must_use]
    pub fn expected(&self, demand: &Demand) -> Option<Expected> {
        self.by_speed(demand).or_else(|| self.by_duration())
    }

    /// Decode speed of one slot, thousandths of a token per second; `None` until measured.
    #[must_use]
    pub fn decode_mtps(&self) -> Option<u64> {
        self.decode.mean().map(|per_ms| (per_ms * 1e6).round() as u64)
    }

    /// Both speeds for people, tokens per second.
    #[must_use]
    pub fn perf_hints(&self) -> PerfHints {
        let per_second = |rate: &Ewma| rate.mean().map(|per_ms| per_ms * 1e3);
        PerfHints {
            prefill_tps: per_second(&self.prefill),
            decode_tps: per_second(&self.decode),
        }
    }

    /// Duration of a run, ms.
    #[must_use]
    pub const fn service_ms(&self) -> &Ewma {
        &self.service_ms
    }

    fn by_duration(&self) -> Option<Expected> {
        let mean = self.service_ms.mean()?;
        Some(Expected::new(mean, self.service_ms.spread().unwrap_or(0.0)))
    }

    fn by_speed(&self, demand: &Demand) -> Option<Expected> {
        let (out, out_spread) = self.output(demand)?;
        let steps = (out - 1.0).max(0.0);
        let prefill_ms = at_rate(f64::from(demand.tokens_in), &self.prefill)?;
        let decode_ms = at_rate(steps, &self.decode)?;
        let spread = prefill_ms * self.prefill.relative_spread()
            + decode_ms * (self.decode.relative_spread() + out_spread);
        Some(Expected::new(prefill_ms + decode_ms, spread))
    }

    /// Tokens the task will generate, and their relative spread.
    fn output(&self, demand: &Demand) -> Option<(f64, f64)> {
        let (out, spread) = match demand.expected_out {
            Some(expected) => (f64::from(expected), 0.0),
            None => (self.tokens_out.mean()?, self.tokens_out.relative_spread()),
        };
        let most = demand.max_out.map_or(f64::INFINITY, f64::from);
        Some((out.min(most), spread))
    }
}

/// How long `amount` takes; nothing takes no time, whatever the rate.
fn at_rate(amount: f64, rate: &Ewma) -> Option<f64> {
    if amount <= 0.0 {
        return Some(0.0);
    }
    rate.mean().filter(|rate| *rate > 0.0).map(|rate| amount / rate)
}

/// What runs have shown, per pool and model. Holds one entry per pair that ever finished a run;
/// pools and models come from configuration, so it stays small.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceTimes {
    pools: BTreeMap<PoolId, BTreeMap<ModelId, ServiceStats>>,
}

impl ServiceTimes {
    /// Learns from one finished run.
    pub fn observe(&mut self, pool: &PoolId, model: &ModelId, run: &Observation) {
        let models = self.pools.entry(pool.clone()).or_default();
        models.entry(model.clone()).or_default().observe(run);
    }

    /// What is known; `None` before the first run.
    #[must_use]
    pub fn stats(&self, pool: &PoolId, model: &ModelId) -> Option<&ServiceStats> {
        self.pools.get(pool)?.get(model)
    }

    /// Forgets pools that are gone.
    pub fn retain(&mut self, mut keep: impl FnMut(&PoolId) -> bool) {
        self.pools.retain(|pool, _| keep(pool));
    }
}
