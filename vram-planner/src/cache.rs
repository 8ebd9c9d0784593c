//! Keys and values of a context: bytes per layer and token.

use api_types::{KvCacheType, ModelFacts};

use crate::estimate::{EstimateError, Load, missing};

/// Numbers per block of the packed types; the others count in the same unit.
const BLOCK: u64 = 32;
/// llama.cpp rounds the cells of a sequence up to this.
const CELLS_LLAMACPP: u64 = 256;
/// Tokens per block of the engines that page their cache.
const CELLS_PAGED: u64 = 16;

/// Bytes of [`BLOCK`] numbers.
const fn block_bytes(of: KvCacheType) -> u64 {
    match of {
        KvCacheType::F32 => 128,
        KvCacheType::F16 | KvCacheType::Bf16 => 64,
        KvCacheType::Fp8 => 32,
        KvCacheType::Q80 => 34,
        KvCacheType::Q51 => 24,
        KvCacheType::Q50 => 22,
        KvCacheType::Q41 => 20,
        KvCacheType::Q40 | KvCacheType::Iq4Nl => 18,
    }
}

fn row(numbers: u64, of: KvCacheType) -> u64 {
    numbers.div_ceil(BLOCK).saturating_mul(block_bytes(of))
}

/// Bytes of the whole cache: all slots, all layers.
pub(crate) fn bytes(facts: &ModelFacts, load: &Load) -> Result<u64, EstimateError> {
    let layers = per_token(facts, load)?;
    let window = window_cells(facts, load);
    let streams = if load.unified { 1 } else { u64::from(load.slots) };
    let cells = cells(load);
    // Which layers have the window matters only where layers differ, and then the narrowest are taken for them: the sum
    // can only be too large.
    let sliding = window.map_or(0, |_| facts.sliding_layers.unwrap_or_default() as usize);
    let mut layers = layers;
    layers.sort_unstable();
    let (narrow, wide) = layers.split_at(sliding.min(layers.len()));
    let sum = |layers: &[u64]| {
        layers
            .iter()
            .fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
    };
    let windowed = sum(narrow).saturating_mul(window.unwrap_or(cells));
    let whole = sum(wide).saturating_mul(cells);
    Ok(windowed.saturating_add(whole).saturating_mul(streams))
}

/// Cells of one stream: a slot's context, or with a unified cache that of all slots.
fn cells(load: &Load) -> u64 {
    let unit = if load.is_paged() {
        CELLS_PAGED
    } else {
        CELLS_LLAMACPP
    };
    let padded = load.ctx.div_ceil(unit).saturating_mul(unit);
    if load.unified {
        padded.saturating_mul(load.slots.into())
    } else {
        padded
    }
}

/// Cells of a layer that looks back only so far. Paged engines are taken to keep everything: whether they do not is a
/// matter of their version.
fn window_cells(facts: &ModelFacts, load: &Load) -> Option<u64> {
    let window = facts.sliding_window.filter(|_| !load.is_paged())?;
    let sequences = if load.unified { u64::from(load.slots) } else { 1 };
    let held = window.saturating_mul(sequences).saturating_add(load.ubatch);
    let padded = held.div_ceil(CELLS_LLAMACPP).saturating_mul(CELLS_LLAMACPP);
    Some(padded.min(cells(load)))
}

/// Bytes per token of each layer.
fn per_token(facts: &ModelFacts, load: &Load) -> Result<Vec<u64>, EstimateError> {
    let layers = facts.layers.ok_or(missing("layers"))? as usize;
    if let Some(latent) = facts.latent_length {
        return Ok(vec![row(latent, load.cache_k); layers]);
    }
    let key = facts.key_length.ok_or(missing("key_length"))?;
    let value = facts.value_length.ok_or(missing("value_length"))?;
    let of = |heads: u32| {
        let heads = u64::from(heads);
        row(key.saturating_mul(heads), load.cache_k)
            .saturating_add(row(value.saturating_mul(heads), load.cache_v))
    };
    match facts.kv_heads.as_slice() {
        [] => Err(missing("kv_heads")),
        [heads] => Ok(vec![of(*heads); layers]),
        each => Ok(each.iter().map(|heads| of(*heads)).collect()),
    }
}
