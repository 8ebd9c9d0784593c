//! Cost of one placement decision over 64 and 1 000 pools.
#![expect(clippy::expect_used, reason = "the benchmark's own ids are well-formed")]

use api_types::{
    Determinism, EngineKind, ModelId, ModelRef, PlacementMode, PlacementOverrides, PoolId, Workload,
};
use divan::{Bencher, black_box};
use orchestrator_core::policy::{
    DecisionCache, JobSpec, PlacementInput, PoolView, Readiness, Requirements, Snapshot, decide, explain,
};

fn main() {
    divan::main();
}

/// Distinct models, as on a site with a few of each.
const MODELS: u32 = 8;
const SIZES: [u32; 2] = [64, 1000];

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the bench's own ids are well-formed")
}

fn pool(n: u32, models: u32) -> PoolView {
    PoolView {
        pool_id: id::<PoolId>(&format!("node{}-gpu{}", n / 8, n % 8)),
        readiness: Readiness::Ready,
        engine: EngineKind::Llamacpp,
        model_id: id::<ModelId>(&format!("org-model-{}b-q4_k_m", n % models)),
        model_ref: id::<ModelRef>(&format!("hf:org/model-{}b/file.gguf", n % models)),
        ctx_max: 8192,
        workloads: vec![Workload::Completion, Workload::Chat],
        deterministic: n.is_multiple_of(2),
        device_mask: vec![format!("GPU-{n:032x}")],
        slots_total: 4,
        slots_free: n % 5,
        predicted_free_ms: Some(u64::from(n) * 100),
        decode_mtps: Some(30_000 + u64::from(n % 3) * 10_000),
        vram_free_bytes: Some(u64::from(n) << 30),
        loadable: Vec::new(),
    }
}

fn snapshot(pools: u32, models: u32) -> Snapshot {
    Snapshot {
        version: 1,
        pools: (0..pools).map(|n| pool(n, models)).collect(),
    }
}

fn job() -> JobSpec {
    JobSpec {
        needs: Requirements {
            model_ref: id("org-model-0b-q4_k_m"),
            engine: None,
            workload: Workload::Chat,
            determinism: Determinism::BestEffort,
            placement: PlacementOverrides::default(),
        },
        ctx_tokens: 2048,
        last_pool: Some(id("node1-gpu0")),
    }
}

fn preferring() -> JobSpec {
    let mut job = job();
    job.needs.engine = Some(EngineKind::Llamacpp);
    job.needs.determinism = Determinism::Strict;
    job.needs.placement.mode = PlacementMode::Prefer;
    job.needs.placement.prefer_pools = vec![id("node3-gpu0"), id("node2-gpu0")];
    job.needs.placement.avoid_pools = vec![id("node0-gpu0")];
    job
}

fn run(bencher: Bencher<'_, '_>, job: &JobSpec, snapshot: &Snapshot) {
    bencher.bench_local(|| decide(black_box(&PlacementInput::new(job, snapshot))));
}

#[divan::bench(args = SIZES)]
fn one_of_eight_models(bencher: Bencher<'_, '_>, pools: u32) {
    run(bencher, &job(), &snapshot(pools, MODELS));
}

#[divan::bench(args = SIZES)]
fn every_pool_is_a_candidate(bencher: Bencher<'_, '_>, pools: u32) {
    run(bencher, &job(), &snapshot(pools, 1));
}

#[divan::bench(args = SIZES)]
fn with_overrides(bencher: Bencher<'_, '_>, pools: u32) {
    run(bencher, &preferring(), &snapshot(pools, 1));
}

#[divan::bench(args = SIZES)]
fn refused_for_context(bencher: Bencher<'_, '_>, pools: u32) {
    let mut job = job();
    job.ctx_tokens = 100_000;
    run(bencher, &job, &snapshot(pools, MODELS));
}

#[divan::bench(args = SIZES)]
fn explained(bencher: Bencher<'_, '_>, pools: u32) {
    let (job, snapshot) = (job(), snapshot(pools, MODELS));
    let input = PlacementInput::new(&job, &snapshot);
    let decision = decide(&input);
    bencher.bench_local(|| explain(black_box(&input), black_box(&decision)));
}

/// The same question again while nothing has changed.
#[divan::bench(args = SIZES)]
fn remembered(bencher: Bencher<'_, '_>, pools: u32) {
    let (job, snapshot) = (job(), snapshot(pools, MODELS));
    let mut cache = DecisionCache::new(1000);
    bencher.bench_local(|| cache.decide(black_box(&job), black_box(&snapshot), 0));
}
