//! What one task may cost on each of its pools, in each play.

use api_types::{ModelId, PoolId};

use super::draw::Draw;
use super::forecast::Asked;
use super::model::Measured;
use super::service::{Demand, ServiceStats};

/// What one task may cost on each of its pools, in each play.
pub(super) struct Sizes<'m> {
    tokens_in: u32,
    /// Pool, its speed, and which of `tokens` is its model's.
    pools: Vec<(usize, Option<&'m ServiceStats>, usize)>,
    /// Tokens in each play, per model; absent where nothing is known.
    tokens: Vec<(&'m ModelId, Vec<Option<f64>>)>,
    draw: Draw,
}

impl<'m> Sizes<'m> {
    pub(super) fn new(
        ids: &'m [(PoolId, ModelId)],
        measured: &'m Measured,
        task: &Asked<'_>,
        draw: Draw,
    ) -> Self {
        let mut sizes = Self {
            tokens_in: task.demand.tokens_in,
            pools: Vec::with_capacity(task.pools.len()),
            tokens: Vec::with_capacity(1),
            draw,
        };
        for &pool in task.pools {
            if let Some((pool_id, model)) = ids.get(pool) {
                let tokens = sizes.tokens_of(measured, model, task.demand);
                sizes.pools.push((pool, measured.stats(pool_id, model), tokens));
            }
        }
        sizes
    }

    fn tokens_of(&mut self, measured: &Measured, model: &'m ModelId, demand: &Demand) -> usize {
        if let Some(known) = self.tokens.iter().position(|(known, _)| *known == model) {
            return known;
        }
        let length = measured.length(model, demand);
        let drawn = (0..self.draw.plays).map(|play| length.tokens(0, self.draw.quantile(play)));
        self.tokens.push((model, drawn.collect()));
        self.tokens.len() - 1
    }

    pub(super) fn service_ms(&self, pool: usize, play: usize) -> Option<f64> {
        let (_, stats, tokens) = self.pools.iter().find(|(own, ..)| *own == pool)?;
        let tokens = (*self.tokens.get(*tokens)?.1.get(play)?)?;
        (*stats)?.service_of(self.tokens_in, tokens, self.draw.spreads(play))
    }
}
