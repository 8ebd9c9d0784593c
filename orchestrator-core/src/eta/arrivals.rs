//! How often interactive tasks arrive: those that come later go before the batch tasks that wait.

use std::collections::BTreeMap;

use api_types::ModelId;

use super::ewma::Ewma;

/// Weight of the newest pause once there are enough: arrivals are irregular, and fewer than thirty
/// of them say little about their rate.
const WEIGHT: f64 = 1.0 / 32.0;

/// Arrivals of interactive tasks for one model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    last_ms: Option<u64>,
    pauses: u32,
    pause_ms: f64,
    tokens_in: Ewma,
}

impl Rate {
    fn add(&mut self, now_ms: u64, tokens_in: u32) {
        self.tokens_in.add(f64::from(tokens_in));
        if let Some(last) = self.last_ms.replace(now_ms) {
            self.pauses = self.pauses.saturating_add(1);
            let weight = f64::from(self.pauses).recip().max(WEIGHT);
            self.pause_ms += weight * (now_ms.saturating_sub(last) as f64 - self.pause_ms);
        }
    }

    /// Mean pause between two arrivals, ms; a pause that still lasts counts as soon as it is longer.
    /// `None` before the second arrival.
    pub(super) fn pause_ms(&self, now_ms: u64) -> Option<f64> {
        let since = now_ms.saturating_sub(self.last_ms?) as f64;
        (self.pauses > 0).then(|| self.pause_ms.max(since).max(1.0))
    }

    /// Prompt tokens of a typical arrival.
    pub(super) fn tokens_in(&self) -> u32 {
        // Float to integer conversion saturates.
        self.tokens_in.mean().unwrap_or(0.0).round() as u32
    }
}

/// Rates per model. Models come from configuration, so it stays small.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Arrivals {
    models: BTreeMap<ModelId, Rate>,
}

impl Arrivals {
    pub(super) fn add(&mut self, model: &ModelId, now_ms: u64, tokens_in: u32) {
        if !self.models.contains_key(model) {
            self.models.insert(model.clone(), Rate::default());
        }
        if let Some(rate) = self.models.get_mut(model) {
            rate.add(now_ms, tokens_in);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ModelId, &Rate)> {
        self.models.iter()
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&ModelId) -> bool) {
        self.models.retain(|model, _| keep(model));
    }
}
