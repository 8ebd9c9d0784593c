//! What a load takes, from what the header says.

use api_types::{EngineKind, KvCacheType, ModelFacts};

use crate::cache;

/// Logits and activations are 32-bit floats.
const FLOAT: u64 = 4;
/// The mask of an attention that is computed in tiles.
const MASK: u64 = 2;
/// Hidden states that are alive at once in a layer: its input, the residual, queries, the attention's output, the result.
const STATES: u64 = 5;
/// Feed-forward states that are alive at once: gate and product.
const WIDE_STATES: u64 = 2;

/// How a model is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// By which engine.
    pub engine: EngineKind,
    /// Its version; what was measured of another one is not used.
    pub engine_version: String,
    /// Context of one slot, tokens.
    pub ctx: u64,
    /// Slots.
    pub slots: u32,
    /// Type of cached keys.
    pub cache_k: KvCacheType,
    /// Type of cached values.
    pub cache_v: KvCacheType,
    /// Tokens that are computed at once: llama.cpp's physical batch, vLLM's batched tokens.
    pub ubatch: u64,
    /// Whether attention is computed in tiles, without the matrix of all scores.
    pub flash_attention: bool,
    /// Whether all slots share one pool of cells (llama.cpp's unified cache).
    pub unified: bool,
}

impl Load {
    pub(crate) const fn is_paged(&self) -> bool {
        matches!(
            self.engine,
            EngineKind::Vllm | EngineKind::Tgi | EngineKind::Triton
        )
    }
}

/// The parts of a load, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tensors on the GPU.
    pub weights: u64,
    /// Keys and values of all slots.
    pub cache: u64,
    /// State of recurrent layers, of all slots.
    pub state: u64,
    /// Logits, activations and masks of one batch. Every device of a split has its own.
    pub compute: u64,
}

impl Estimate {
    /// Everything on one device.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.shared().saturating_add(self.compute)
    }

    /// What devices share when layers are split between them.
    pub(crate) const fn shared(&self) -> u64 {
        self.weights.saturating_add(self.cache).saturating_add(self.state)
    }
}

/// Why nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EstimateError {
    /// The header does not say what the sum needs.
    #[error("the model's header does not tell its {field}; memory is known only once it was measured")]
    Missing {
        /// The field of the facts.
        field: &'static str,
    },
    /// The engine cannot keep its cache in this type.
    #[error("cache type: {engine} has no {of}")]
    CacheType {
        /// The engine.
        engine: EngineKind,
        /// The type.
        of: KvCacheType,
    },
    /// It does not run here.
    #[error("engine: {engine} has no memory of this machine")]
    Remote {
        /// The engine.
        engine: EngineKind,
    },
    /// A load of nothing.
    #[error("{field}: must be at least 1")]
    Zero {
        /// The field of the load.
        field: &'static str,
    },
}

pub(crate) const fn missing(field: &'static str) -> EstimateError {
    EstimateError::Missing { field }
}

/// What the load takes on its GPUs, without any allowance.
///
/// # Errors
/// [`EstimateError`].
pub fn estimate(facts: &ModelFacts, load: &Load) -> Result<Estimate, EstimateError> {
    check(load)?;
    let weights = if load.is_paged() {
        facts.tensor_bytes
    } else {
        facts.offloaded_bytes
    };
    Ok(Estimate {
        weights,
        cache: cache::bytes(facts, load)?,
        state: facts.recurrent_bytes.saturating_mul(load.slots.into()),
        compute: compute(facts, load)?,
    })
}

fn check(load: &Load) -> Result<(), EstimateError> {
    if load.engine == EngineKind::Openai {
        return Err(EstimateError::Remote { engine: load.engine });
    }
    for (field, value) in [
        ("ctx", load.ctx),
        ("slots", load.slots.into()),
        ("ubatch", load.ubatch),
    ] {
        if value == 0 {
            return Err(EstimateError::Zero { field });
        }
    }
    let has = |of: KvCacheType| match of {
        KvCacheType::F16 | KvCacheType::Bf16 => true,
        KvCacheType::Fp8 => load.is_paged(),
        KvCacheType::F32
        | KvCacheType::Q80
        | KvCacheType::Q51
        | KvCacheType::Q50
        | KvCacheType::Q41
        | KvCacheType::Q40
        | KvCacheType::Iq4Nl => !load.is_paged(),
    };
    match [load.cache_k, load.cache_v].into_iter().find(|of| !has(*of)) {
        Some(of) => Err(EstimateError::CacheType {
            engine: load.engine,
            of,
        }),
        None => Ok(()),
    }
}

/// An upper bound: engines reuse memory between layers, and logits between batches.
fn compute(facts: &ModelFacts, load: &Load) -> Result<u64, EstimateError> {
    let width = facts.embedding_length.ok_or(missing("embedding_length"))?;
    let wide = facts.feed_forward_length.unwrap_or_default();
    let logits = facts.vocabulary.ok_or(missing("vocabulary"))?;
    // llama.cpp has logits for every token of a batch, paged engines for one of each sequence.
    let rows = if load.is_paged() {
        load.slots.into()
    } else {
        load.ubatch
    };
    let states = width
        .saturating_mul(STATES)
        .saturating_add(wide.saturating_mul(WIDE_STATES));
    let scores = if load.flash_attention {
        load.ctx.saturating_mul(MASK)
    } else {
        let heads = u64::from(facts.heads.ok_or(missing("heads"))?);
        load.ctx
            .saturating_mul(FLOAT)
            .saturating_mul(heads.saturating_add(1))
    };
    let logits = logits.saturating_mul(FLOAT).saturating_mul(rows);
    let batch = states.saturating_mul(FLOAT).saturating_add(scores);
    Ok(batch.saturating_mul(load.ubatch).saturating_add(logits))
}
