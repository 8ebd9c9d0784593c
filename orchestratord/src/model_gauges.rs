//! What the models' engines hold: `model_state` and `kv_cache_usage_ratio`. Owns the two families; a model or pool that
//! is gone leaves no series behind.

use std::collections::BTreeMap;

use api_types::ModelId;
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

/// Whether a model can be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelState {
    /// No engine of it takes work, and none is being started.
    Unavailable,
    /// An engine of it is being started.
    Loading,
    /// At least one pool of it takes work.
    Ready,
}

impl ModelState {
    const ALL: [Self; 3] = [Self::Unavailable, Self::Loading, Self::Ready];

    const fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Loading => "loading",
            Self::Ready => "ready",
        }
    }
}

/// Values of `engine`, `engine_version`, `pool_id`.
pub type PoolKey = [String; 3];

/// The two families and what they show now.
#[derive(Debug)]
pub struct ModelGauges {
    state: IntGaugeVec,
    kv_cache: GaugeVec,
    models: BTreeMap<ModelId, ModelState>,
    pools: BTreeMap<PoolKey, f64>,
}

impl ModelGauges {
    /// Registers the families.
    ///
    /// # Errors
    /// When a family of the same name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let state = IntGaugeVec::new(
            Opts::new(
                "model_state",
                "1 for the state that a model is in, 0 for the others",
            ),
            &["model_id", "state"],
        )?;
        let kv_cache = GaugeVec::new(
            Opts::new(
                "kv_cache_usage_ratio",
                "Share of a pool's context that the tokens of its running tasks take",
            ),
            &["engine", "engine_version", "pool_id"],
        )?;
        registry.register(Box::new(state.clone()))?;
        registry.register(Box::new(kv_cache.clone()))?;
        Ok(Self {
            state,
            kv_cache,
            models: BTreeMap::new(),
            pools: BTreeMap::new(),
        })
    }

    /// Shows these models and pools and no others.
    pub fn show(&mut self, models: BTreeMap<ModelId, ModelState>, pools: BTreeMap<PoolKey, f64>) {
        if models != self.models {
            for gone in self.models.keys().filter(|id| !models.contains_key(*id)) {
                for state in ModelState::ALL {
                    // An error means that there is no such series, which is what is wanted.
                    let _unknown = self.state.remove_label_values(&[gone.as_str(), state.label()]);
                }
            }
            for (model, now) in &models {
                for state in ModelState::ALL {
                    let labels = [model.as_str(), state.label()];
                    self.state
                        .with_label_values(&labels)
                        .set(i64::from(state == *now));
                }
            }
            self.models = models;
        }
        for gone in self.pools.keys().filter(|key| !pools.contains_key(*key)) {
            let _unknown = self.kv_cache.remove_label_values(&labels(gone));
        }
        for (key, ratio) in &pools {
            self.kv_cache.with_label_values(&labels(key)).set(*ratio);
        }
        self.pools = pools;
    }
}

fn labels(key: &PoolKey) -> [&str; 3] {
    key.each_ref().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    #[test]
    fn a_model_has_one_state_and_leaves_nothing_behind() {
        let registry = Registry::new();
        let mut gauges = ModelGauges::new(&registry).unwrap();
        let model = ModelId::new("tiny").unwrap();
        let pool = ["llamacpp", "b1", "p"].map(str::to_owned);
        gauges.show(
            BTreeMap::from([(model, ModelState::Loading)]),
            BTreeMap::from([(pool, 0.25)]),
        );
        let shown = text(&registry);
        assert!(shown.contains("state=\"loading\"} 1"), "{shown}");
        assert!(shown.contains("state=\"ready\"} 0"), "{shown}");
        assert!(shown.contains("pool_id=\"p\"} 0.25"), "{shown}");
        gauges.show(BTreeMap::new(), BTreeMap::new());
        let after = text(&registry);
        assert!(!after.contains("tiny") && !after.contains("pool_id"), "{after}");
    }
}
