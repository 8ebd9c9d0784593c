//! Pools, jobs and ids to start from, and strategies that draw them.
#![expect(clippy::unwrap_used, reason = "ids written here are well-formed")]

use api_types::{Determinism, EngineKind, PlacementMode, PlacementOverrides, PoolId, TaskId, Workload};
use orchestrator_core::policy::{JobSpec, PoolView, Readiness, Requirements, Snapshot};
use proptest::prelude::*;
use uuid::Uuid;

pub(super) fn task(n: u32) -> TaskId {
    TaskId::new(Uuid::from_u128(n.into()))
}

pub(super) fn pool_id(name: &str) -> PoolId {
    PoolId::new(name).unwrap()
}

/// Ready, 4 slots of 4096 tokens, all free, serving `tiny`.
pub(super) fn pool(name: &str) -> PoolView {
    PoolView {
        pool_id: pool_id(name),
        readiness: Readiness::Ready,
        engine: EngineKind::Llamacpp,
        model_id: "tiny".parse().unwrap(),
        model_ref: "file:/models/tiny.gguf".parse().unwrap(),
        ctx_max: 4096,
        workloads: vec![Workload::Completion, Workload::Chat],
        deterministic: false,
        device_mask: vec![format!("GPU-{name}")],
        slots_total: 4,
        slots_free: 4,
        predicted_free_ms: None,
        decode_mtps: None,
        vram_free_bytes: None,
        loadable: Vec::new(),
    }
}

/// A completion of `tiny` with 100 tokens of context.
pub(super) fn job() -> JobSpec {
    JobSpec {
        needs: Requirements {
            model_ref: "tiny".parse().unwrap(),
            engine: None,
            workload: Workload::Completion,
            determinism: Determinism::BestEffort,
            placement: PlacementOverrides::default(),
        },
        ctx_tokens: 100,
        last_pool: None,
    }
}

pub(super) fn with_placement(placement: PlacementOverrides) -> JobSpec {
    let mut job = job();
    job.needs.placement = placement;
    job
}

pub(super) fn pin(pool: &str) -> PlacementOverrides {
    PlacementOverrides {
        mode: PlacementMode::Pin,
        pin_pool_id: Some(pool_id(pool)),
        ..PlacementOverrides::default()
    }
}

pub(super) fn prefer(pools: &[&str], allow_fallback: bool) -> PlacementOverrides {
    PlacementOverrides {
        mode: PlacementMode::Prefer,
        prefer_pools: pools.iter().map(|pool| pool_id(pool)).collect(),
        allow_fallback,
        ..PlacementOverrides::default()
    }
}

pub(super) fn avoid(pools: &[&str], allow_fallback: bool) -> PlacementOverrides {
    PlacementOverrides {
        avoid_pools: pools.iter().map(|pool| pool_id(pool)).collect(),
        allow_fallback,
        ..PlacementOverrides::default()
    }
}

pub(super) fn snapshot(pools: impl IntoIterator<Item = PoolView>) -> Snapshot {
    Snapshot {
        version: 7,
        pools: pools.into_iter().collect(),
    }
}

const POOLS: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];
const MODELS: [&str; 2] = ["tiny", "large"];

fn readiness() -> impl Strategy<Value = Readiness> {
    prop_oneof![
        6 => Just(Readiness::Ready),
        1 => Just(Readiness::Starting),
        1 => Just(Readiness::Draining),
        1 => Just(Readiness::Down),
    ]
}

fn any_pool(name: &'static str) -> impl Strategy<Value = PoolView> {
    let serving = (
        prop::sample::select(&MODELS[..]),
        prop::sample::select(&[1024u32, 4096][..]),
        any::<bool>(),
        prop::sample::select(&[EngineKind::Llamacpp, EngineKind::Vllm][..]),
    );
    let live = (
        readiness(),
        (1u32..4).prop_flat_map(|total| (Just(total), 0..=total)),
        prop::option::of(0u64..3),
        prop::option::of(0u64..3),
        prop::option::of(0u64..3),
    );
    (serving, live).prop_map(
        move |((model, ctx_max, deterministic, engine), (readiness, (total, free), start, speed, vram))| {
            PoolView {
                readiness,
                engine,
                model_id: model.parse().unwrap(),
                ctx_max,
                deterministic,
                slots_total: total,
                slots_free: free,
                predicted_free_ms: start,
                decode_mtps: speed,
                vram_free_bytes: vram,
                loadable: Vec::new(),
                ..pool(name)
            }
        },
    )
}

/// Up to five pools in random order and condition; values are drawn close together so that ties
/// are common.
pub(super) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    prop::sample::subsequence(&POOLS[..], 0..=POOLS.len())
        .prop_flat_map(|names| names.into_iter().map(any_pool).collect::<Vec<_>>())
        .prop_shuffle()
        .prop_map(snapshot)
}

fn any_placement() -> impl Strategy<Value = PlacementOverrides> {
    let some_pools = || prop::sample::subsequence(&POOLS[..], 1..4).prop_shuffle();
    prop_oneof![
        4 => Just(PlacementOverrides::default()),
        1 => prop::sample::select(&POOLS[..]).prop_map(pin),
        2 => (some_pools(), any::<bool>()).prop_map(|(pools, fallback)| prefer(&pools, fallback)),
        2 => (some_pools(), any::<bool>()).prop_map(|(pools, fallback)| avoid(&pools, fallback)),
        1 => prop::sample::select(&POOLS[..]).prop_map(|pool| PlacementOverrides {
            require_device_mask: Some(format!("GPU-{pool}")),
            ..PlacementOverrides::default()
        }),
    ]
}

pub(super) fn any_job() -> impl Strategy<Value = JobSpec> {
    (
        prop::sample::select(&["tiny", "large", "absent"][..]),
        prop::sample::select(&[100u32, 2000, 9000][..]),
        prop::option::weighted(
            0.2,
            prop::sample::select(&[EngineKind::Llamacpp, EngineKind::Vllm][..]),
        ),
        prop::sample::select(
            &[
                Determinism::BestEffort,
                Determinism::BestEffort,
                Determinism::Strict,
            ][..],
        ),
        prop::option::weighted(0.3, prop::sample::select(&POOLS[..])),
        any_placement(),
    )
        .prop_map(
            |(model, ctx_tokens, engine, determinism, last_pool, placement)| JobSpec {
                needs: Requirements {
                    model_ref: model.parse().unwrap(),
                    engine,
                    workload: Workload::Completion,
                    determinism,
                    placement,
                },
                ctx_tokens,
                last_pool: last_pool.map(pool_id),
            },
        )
}
