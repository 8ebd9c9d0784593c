//! What one task may cost on each pool, in each play.

use api_types::{ModelId, PoolId};

use super::draw::Draw;
use super::model::Measured;
use super::service::{Demand, ServiceStats};

/// What one task may cost on a pool, in each play. Looked up for the pools that a play chooses: of many feasible ones few.
pub(super) struct Sizes<'m> {
    ids: &'m [(PoolId, ModelId)],
    measured: &'m Measured,
    demand: &'m Demand,
    /// Chosen so far: pool, its speed, and which of `tokens` is its model's.
    pools: Vec<(usize, Option<&'m ServiceStats>, usize)>,
    /// Tokens in each play, per model; absent where nothing is known.
    tokens: Vec<(&'m ModelId, Vec<Option<f64>>)>,
    draw: Draw,
}

impl<'m> Sizes<'m> {
    pub(super) const fn new(
        ids: &'m [(PoolId, ModelId)],
        measured: &'m Measured,
        demand: &'m Demand,
        draw: Draw,
    ) -> Self {
        Self {
            ids,
            measured,
            demand,
            pools: Vec::new(),
            tokens: Vec::new(),
            draw,
        }
    }

    pub(super) fn service_ms(&mut self, pool: usize, play: usize) -> Option<f64> {
        let known = self.pools.iter().find(|(own, ..)| *own == pool).copied();
        let (_, stats, tokens) = match known {
            Some(known) => known,
            None => self.look_up(pool)?,
        };
        let tokens = (*self.tokens.get(tokens)?.1.get(play)?)?;
        stats?.service_of(self.demand.tokens_in, tokens, self.draw.spreads(play))
    }

    fn look_up(&mut self, pool: usize) -> Option<(usize, Option<&'m ServiceStats>, usize)> {
        let (pool_id, model) = self.ids.get(pool)?;
        let known = (pool, self.measured.stats(pool_id, model), self.tokens_of(model));
        self.pools.push(known);
        Some(known)
    }

    fn tokens_of(&mut self, model: &'m ModelId) -> usize {
        if let Some(known) = self.tokens.iter().position(|(known, _)| *known == model) {
            return known;
        }
        let length = self.measured.length(model, self.demand);
        let drawn = (0..self.draw.plays).map(|play| length.tokens(0, self.draw.quantile(play)));
        self.tokens.push((model, drawn.collect()));
        self.tokens.len() - 1
    }
}
