//! Models and loads that are known.

use api_types::{EngineKind, KvCacheType, ModelFacts, ModelFormat, Sha256Digest};
use vram_planner::{Device, Load, Loaded};

pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const MODEL: Sha256Digest = Sha256Digest::new([7; 32]);

/// The tiny model of the recorded start-up log.
pub(crate) fn tiny() -> ModelFacts {
    ModelFacts {
        format: ModelFormat::Gguf,
        architecture: Some("llama".to_owned()),
        name: None,
        quantization: Some("F32".to_owned()),
        parameters: 838_912,
        tensor_bytes: 3_355_648,
        offloaded_bytes: 3_154_944,
        context_length: Some(512),
        layers: Some(4),
        embedding_length: Some(128),
        feed_forward_length: Some(352),
        heads: Some(4),
        kv_heads: vec![2],
        key_length: Some(32),
        value_length: Some(32),
        latent_length: None,
        sliding_window: None,
        sliding_layers: None,
        recurrent_bytes: 0,
        vocabulary: Some(392),
        experts: None,
        chat_template: true,
    }
}

/// Llama 3 8B in Q4_K_M.
pub(crate) fn llama_8b() -> ModelFacts {
    ModelFacts {
        parameters: 8_030_261_248,
        tensor_bytes: 4_912_898_304,
        offloaded_bytes: 4_617_396_224,
        context_length: Some(8192),
        layers: Some(32),
        embedding_length: Some(4096),
        feed_forward_length: Some(14336),
        heads: Some(32),
        kv_heads: vec![8],
        key_length: Some(128),
        value_length: Some(128),
        vocabulary: Some(128_256),
        ..tiny()
    }
}

pub(crate) fn load(ctx: u64, slots: u32) -> Load {
    Load {
        engine: EngineKind::Llamacpp,
        engine_version: "b1".to_owned(),
        ctx,
        slots,
        cache_k: KvCacheType::F16,
        cache_v: KvCacheType::F16,
        ubatch: 512,
        flash_attention: true,
        unified: false,
    }
}

pub(crate) fn device(name: &str, total_gib: u64, loaded: &[(&str, u64)], others_gib: u64) -> Device {
    let loaded: Vec<Loaded> = loaded
        .iter()
        .map(|(name, gib)| Loaded {
            name: (*name).to_owned(),
            bytes: gib * GIB,
        })
        .collect();
    let ours: u64 = loaded.iter().map(|loaded| loaded.bytes).sum();
    Device {
        name: name.to_owned(),
        total: total_gib * GIB,
        free: total_gib * GIB - ours - others_gib * GIB,
        reserved: 0,
        loaded,
        others: others_gib * GIB,
    }
}
