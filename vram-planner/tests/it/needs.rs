//! REQ-VRAM-LEARN: what was measured counts more than what was estimated.

use api_types::{KvCacheType, MeasuredUsage, ModelFacts, Sha256Digest, UsageKey};
use vram_planner::{Allowance, Basis, Load, estimate, need};

use crate::fixtures::{GIB, MIB, MODEL, llama_8b, load};

fn seen(load: &Load, bytes: u64) -> MeasuredUsage {
    MeasuredUsage {
        key: UsageKey {
            engine: load.engine,
            engine_version: load.engine_version.clone(),
            model: MODEL,
            ctx: load.ctx,
            slots: load.slots,
            cache_k: load.cache_k,
            cache_v: load.cache_v,
        },
        bytes,
        samples: 1,
        measured_unix_ms: 1,
    }
}

fn of(load: &Load, measured: &[MeasuredUsage]) -> vram_planner::Need {
    need(&MODEL, &llama_8b(), load, 1, measured, Allowance::default()).unwrap()
}

#[test]
fn an_estimate_gets_an_allowance() {
    let load = load(4096, 2);
    let total = estimate(&llama_8b(), &load).unwrap().total();
    let need = of(&load, &[]);
    assert_eq!(need.basis, Basis::Estimated);
    assert_eq!(need.total, total + total / 100 * 5 + 512 * MIB);
    assert_eq!(need.beyond, need.total - total);
}

#[test]
fn a_measured_load_is_known() {
    let load = load(4096, 2);
    let need = of(&load, &[seen(&load, 6 * GIB)]);
    assert_eq!(
        (need.basis, need.total),
        (Basis::Measured, 6 * GIB + 6 * GIB / 100 * 2)
    );
    let silent = ModelFacts {
        layers: None,
        ..llama_8b()
    };
    let measured = vram_planner::need(
        &MODEL,
        &silent,
        &load,
        1,
        &[seen(&load, GIB)],
        Allowance::default(),
    );
    assert_eq!(
        measured.unwrap().basis,
        Basis::Measured,
        "no header is needed for it"
    );
}

#[test]
fn another_load_of_the_model_tells_what_the_estimate_misses() {
    let small = load(4096, 1);
    let estimated = estimate(&llama_8b(), &small).unwrap().total();
    let large = load(8192, 4);
    let known = estimate(&llama_8b(), &large).unwrap();
    for (missed, expected) in [(700 * MIB, known.total() + 700 * MIB), (0, known.total())] {
        let need = of(&large, &[seen(&small, estimated + missed)]);
        assert_eq!(
            (need.basis, need.total),
            (Basis::Corrected, expected + expected / 100 * 5)
        );
    }
    // An engine that took less than weights and cache are has not been seen whole.
    let need = of(&large, &[seen(&small, MIB)]);
    assert!(need.total >= known.weights + known.cache);
    // The most similar one counts.
    let near = load(8192, 3);
    let near_estimated = estimate(&llama_8b(), &near).unwrap().total();
    let measured = [
        seen(&small, estimated + 9 * GIB),
        seen(&near, near_estimated + GIB),
    ];
    assert_eq!(
        of(&large, &measured).total,
        (known.total() + GIB) + (known.total() + GIB) / 100 * 5
    );
}

#[test]
fn other_models_versions_and_cache_types_tell_nothing() {
    let asked = load(4096, 2);
    let mut other_model = seen(&load(4096, 1), 9 * GIB);
    other_model.key.model = Sha256Digest::new([8; 32]);
    let mut other_version = seen(&load(4096, 1), 9 * GIB);
    other_version.key.engine_version = "b2".to_owned();
    let mut other_type = seen(&load(4096, 1), 9 * GIB);
    other_type.key.cache_k = KvCacheType::Q80;
    assert_eq!(
        of(&asked, &[other_model, other_version, other_type]),
        of(&asked, &[])
    );
}
