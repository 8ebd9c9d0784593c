//! Cost of waiting: push, remove, position and a dispatch round, by queue length.
#![expect(clippy::expect_used, reason = "the benchmark's own ids are well-formed")]

use api_types::{
    Determinism, EngineKind, ModelId, ModelRef, PlacementOverrides, PoolId, Priority, TaskId, Workload,
};
use divan::{Bencher, black_box};
use orchestrator_core::dispatch::{Job, Turns, assign};
use orchestrator_core::policy::{JobSpec, PoolView, Readiness, Requirements, Snapshot};
use orchestrator_core::queue::{FullPolicy, Queue, QueueConfig};
use uuid::Uuid;

fn main() {
    divan::main();
}

const LENGTHS: [u32; 5] = [1, 10, 100, 1000, 10_000];

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the bench's own ids are well-formed")
}

/// Ids that are not in the order of arrival.
fn task(n: u32) -> TaskId {
    TaskId::new(Uuid::from_u128(u128::from(n.wrapping_mul(2_654_435_761))))
}

fn job(model: u32, ctx_tokens: u32) -> Job {
    Job::new(JobSpec {
        needs: Requirements {
            model_ref: id(&format!("model-{model}")),
            engine: None,
            workload: Workload::Completion,
            determinism: Determinism::BestEffort,
            placement: PlacementOverrides::default(),
        },
        ctx_tokens,
        last_pool: None,
    })
}

fn pool(n: u32, slots_free: u32) -> PoolView {
    PoolView {
        pool_id: id::<PoolId>(&format!("gpu{n}")),
        readiness: Readiness::Ready,
        engine: EngineKind::Llamacpp,
        model_id: id::<ModelId>(&format!("model-{n}")),
        model_ref: id::<ModelRef>(&format!("file:/models/{n}.gguf")),
        ctx_max: 8192,
        workloads: vec![Workload::Completion],
        deterministic: false,
        device_mask: vec![format!("GPU-{n}")],
        slots_total: 4,
        slots_free,
        predicted_free_ms: None,
        decode_mtps: None,
        vram_free_bytes: None,
        loadable: Vec::new(),
    }
}

/// Every third task is batch and aged; models 0 to 7 in turn, context varies.
fn queue(length: u32) -> Queue<Job> {
    let mut queue = Queue::new(QueueConfig {
        capacity: 20_000,
        full_policy: FullPolicy::Reject,
        batch_max_wait_ms: 0,
    });
    for n in 0..length {
        let priority = if n % 3 == 0 {
            Priority::Batch
        } else {
            Priority::Interactive
        };
        drop(queue.push(task(n), priority, u64::from(n), job(n % 8, 100 + n * 7 % 1000)));
    }
    queue
}

#[divan::bench(args = LENGTHS)]
fn push_and_remove(bencher: Bencher<'_, '_>, length: u32) {
    let mut queue = queue(length);
    let mut spare = Some(job(0, 100));
    let newcomer = task(1_000_000);
    bencher.bench_local(|| {
        if let Some(payload) = spare.take() {
            drop(black_box(queue.push(
                newcomer,
                Priority::Interactive,
                20_000,
                payload,
            )));
        }
        spare = queue.remove(&newcomer).map(|queued| queued.payload);
    });
}

#[divan::bench(args = LENGTHS)]
fn position_in_the_middle(bencher: Bencher<'_, '_>, length: u32) {
    let queue = queue(length);
    let middle = task(length / 2);
    bencher.bench_local(|| queue.position(black_box(&middle), 20_000));
}

#[divan::bench(args = LENGTHS)]
fn walk_in_order(bencher: Bencher<'_, '_>, length: u32) {
    let queue = queue(length);
    bencher.bench_local(|| queue.order(20_000).fold(0, |sum, (ticket, _)| sum ^ ticket.seq));
}

/// Nobody's model has a free slot, but another model's has: the whole queue is asked.
#[divan::bench(args = LENGTHS)]
fn round_that_places_nobody(bencher: Bencher<'_, '_>, length: u32) {
    let queue = queue(length);
    let mut snapshot = Snapshot {
        version: 1,
        pools: (0..64).map(|n| pool(n, u32::from(n >= 8))).collect(),
    };
    let mut turns = Turns::default();
    bencher.bench_local(|| assign(&queue, &mut snapshot, &mut turns, 20_000));
}

/// One slot has freed; the first task in line takes it.
#[divan::bench(args = LENGTHS)]
fn round_that_places_one(bencher: Bencher<'_, '_>, length: u32) {
    let queue = queue(length);
    let pools: Vec<PoolView> = (0..64).map(|n| pool(n, u32::from(n == 0))).collect();
    let mut turns = Turns::default();
    bencher
        .with_inputs(|| Snapshot {
            version: 1,
            pools: pools.clone(),
        })
        .bench_local_values(|mut snapshot| assign(&queue, &mut snapshot, &mut turns, 20_000));
}
