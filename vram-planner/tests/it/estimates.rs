//! REQ-VRAM-ESTIMATE: estimates against loads of the real llama.cpp and against arithmetic.

use api_types::{EngineKind, KvCacheType, ModelFacts};
use vram_planner::{EstimateError, Load, estimate};

use crate::fixtures::{MIB, llama_8b, load, tiny};

/// Recorded of the real server: 2 slots of 256 with 4 layers of 2 heads of 32 numbers.
#[test]
fn the_recorded_start_of_a_real_engine() {
    // `CPU KV buffer size = 0.50 MiB`, `compute buffer size = 3.32 MiB`, `model buffer size = 3.20 MiB`.
    let of = estimate(&tiny(), &load(256, 2)).unwrap();
    assert_eq!(of.cache, MIB / 2);
    assert_eq!(tiny().tensor_bytes * 100 / MIB, 320);
    let measured = MIB * 332 / 100;
    assert!(
        of.compute > measured && of.compute < 2 * measured,
        "{}",
        of.compute
    );
    // Another one: 3 slots of 512 took 1.50 MiB.
    assert_eq!(estimate(&tiny(), &load(512, 3)).unwrap().cache, 3 * MIB / 2);
}

#[test]
fn a_token_of_an_ordinary_model_takes_what_it_is_known_to_take() {
    let of = estimate(&llama_8b(), &load(8192, 1)).unwrap();
    assert_eq!(of.cache, 8192 * 131_072);
    assert_eq!(of.weights, llama_8b().offloaded_bytes);
    // With these numbers llama.cpp reserves 258.5 MiB: logits of a batch and one hidden state.
    assert!(of.compute > 258 * MIB && of.compute < 512 * MIB, "{}", of.compute);
    let without_tiles = Load {
        flash_attention: false,
        ..load(8192, 1)
    };
    let more = estimate(&llama_8b(), &without_tiles).unwrap().compute - of.compute;
    assert!(more > 32 * 8192 * 512 * 4 - 64 * MIB, "{more}");
}

#[test]
fn cache_types_take_what_their_blocks_take() {
    for (of, per_32) in [
        (KvCacheType::F32, 128),
        (KvCacheType::Bf16, 64),
        (KvCacheType::Q80, 34),
        (KvCacheType::Q51, 24),
        (KvCacheType::Q50, 22),
        (KvCacheType::Q41, 20),
        (KvCacheType::Q40, 18),
        (KvCacheType::Iq4Nl, 18),
    ] {
        let with = Load {
            cache_v: of,
            ..load(1024, 1)
        };
        // 32 layers, 8 heads of 128: 32 blocks for keys and 32 for values.
        let expected = 1024 * 32 * 32 * (64 + per_32);
        assert_eq!(estimate(&llama_8b(), &with).unwrap().cache, expected, "{of}");
    }
}

#[test]
fn layers_without_a_cache_with_a_window_or_with_one_vector_take_less() {
    let mixed = ModelFacts {
        kv_heads: vec![8, 0, 0, 4],
        layers: Some(4),
        recurrent_bytes: 1000,
        ..llama_8b()
    };
    let of = estimate(&mixed, &load(1024, 3)).unwrap();
    assert_eq!(of.cache, 3 * 1024 * 12 * 128 * 2 * 2);
    assert_eq!(of.state, 3000);

    let windowed = ModelFacts {
        sliding_window: Some(1024),
        sliding_layers: Some(24),
        ..llama_8b()
    };
    // 8 layers keep all of it, 24 keep a window and a batch, rounded up.
    let per_layer = 8 * 128 * 2 * 2;
    let of = estimate(&windowed, &load(8192, 2)).unwrap();
    assert_eq!(of.cache, 2 * per_layer * (8 * 8192 + 24 * 1536));
    let short = estimate(&windowed, &load(512, 1)).unwrap();
    assert_eq!(short.cache, per_layer * 32 * 512);

    let latent = ModelFacts {
        latent_length: Some(576),
        ..llama_8b()
    };
    assert_eq!(
        estimate(&latent, &load(1024, 1)).unwrap().cache,
        1024 * 32 * 576 * 2
    );
}

#[test]
fn a_shared_pool_holds_what_all_slots_may() {
    let unified = Load {
        unified: true,
        ..load(1000, 4)
    };
    let apart = estimate(&llama_8b(), &load(1000, 4)).unwrap();
    assert_eq!(estimate(&llama_8b(), &unified).unwrap().cache, apart.cache);
    assert_eq!(apart.cache, 4 * 1024 * 131_072, "contexts are rounded up");
}

#[test]
fn paged_engines_keep_every_tensor_and_round_to_their_blocks() {
    let paged = Load {
        engine: EngineKind::Vllm,
        ..load(1000, 4)
    };
    let of = estimate(&llama_8b(), &paged).unwrap();
    assert_eq!(of.weights, llama_8b().tensor_bytes);
    assert_eq!(of.cache, 4 * 1008 * 131_072);
    let fp8 = Load {
        cache_k: KvCacheType::Fp8,
        cache_v: KvCacheType::Fp8,
        ..paged
    };
    assert_eq!(estimate(&llama_8b(), &fp8).unwrap().cache, of.cache / 2);
}

#[test]
fn what_cannot_be_said_is_not_said() {
    let no_layers = ModelFacts {
        layers: None,
        ..llama_8b()
    };
    let refused = estimate(&no_layers, &load(1024, 1)).unwrap_err();
    assert_eq!(refused, EstimateError::Missing { field: "layers" });
    let q8_in_vllm = Load {
        engine: EngineKind::Vllm,
        cache_k: KvCacheType::Q80,
        ..load(1024, 1)
    };
    let refused = estimate(&llama_8b(), &q8_in_vllm).unwrap_err();
    assert_eq!(refused.to_string(), "cache type: vllm has no q8_0");
    let elsewhere = Load {
        engine: EngineKind::Openai,
        ..load(1024, 1)
    };
    assert!(matches!(
        estimate(&llama_8b(), &elsewhere),
        Err(EstimateError::Remote { .. })
    ));
    let nothing = estimate(&llama_8b(), &load(0, 1)).unwrap_err();
    assert_eq!(nothing.to_string(), "ctx: must be at least 1");
}
