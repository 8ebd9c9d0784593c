//! Cost of predictions: a board over the whole queue, and one more task on it.
#![expect(clippy::expect_used, reason = "the benchmark's own ids are well-formed")]

use api_types::{
    Determinism, EngineKind, ModelId, ModelRef, PlacementOverrides, PoolId, Priority, TaskId, Workload,
};
use divan::{Bencher, black_box};
use orchestrator_core::dispatch::Job;
use orchestrator_core::eta::{Board, Demand, Measured, Observation, PoolSlots, Running, Size};
use orchestrator_core::policy::{JobSpec, PoolView, Readiness, Requirements, Snapshot};
use orchestrator_core::queue::{FullPolicy, Queue, QueueConfig};
use uuid::Uuid;

fn main() {
    divan::main();
}

/// Pools and waiting tasks.
const SIZES: [(u32, u32); 5] = [(1, 64), (1, 256), (1, 4096), (64, 256), (64, 4096)];
const SLOTS: u32 = 4;
const NOW_MS: u64 = 100_000;

const SIZE: Size = Size {
    demand: Demand {
        class: Priority::Interactive,
        tokens_in: 300,
        expected_out: None,
        max_out: Some(1024),
    },
    deadline_at_ms: None,
};

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the bench's own ids are well-formed")
}

fn task(n: u32) -> TaskId {
    TaskId::new(Uuid::from_u128(u128::from(n.wrapping_mul(2_654_435_761))))
}

fn spec() -> JobSpec {
    JobSpec {
        needs: Requirements {
            model_ref: id("model"),
            engine: None,
            workload: Workload::Completion,
            determinism: Determinism::BestEffort,
            placement: PlacementOverrides::default(),
        },
        ctx_tokens: 1024,
        last_pool: None,
    }
}

fn view(n: u32) -> PoolView {
    PoolView {
        pool_id: id::<PoolId>(&format!("gpu{n}")),
        readiness: Readiness::Ready,
        engine: EngineKind::Llamacpp,
        model_id: id::<ModelId>("model"),
        model_ref: id::<ModelRef>("file:/models/model.gguf"),
        ctx_max: 8192,
        workloads: vec![Workload::Completion],
        deterministic: false,
        device_mask: vec![format!("GPU-{n}")],
        slots_total: SLOTS,
        slots_free: 0,
        predicted_free_ms: None,
        decode_mtps: None,
        vram_free_bytes: None,
        loadable: Vec::new(),
    }
}

/// Full pools that have shown what they can do, and a queue: every fourth task is batch.
struct Site {
    measured: Measured,
    snapshot: Snapshot,
    queue: Queue<Job>,
}

impl Site {
    fn new((pools, waiting): (u32, u32)) -> Self {
        let snapshot = Snapshot {
            version: 1,
            pools: (0..pools).map(view).collect(),
        };
        let mut measured = Measured::default();
        for (n, view) in (0u32..).zip(snapshot.pools.iter().cycle().take(40 * pools as usize)) {
            let seen = Observation {
                tokens_in: 200 + n % 200,
                tokens_out: 20 + n * 37 % 300,
                first_token_ms: 100 + u64::from(n % 50),
                decode_ms: u64::from(20 + n * 37 % 300) * 20,
            };
            measured.observe(&view.pool_id, &view.model_id, &SIZE.demand, &seen);
        }
        let mut queue = Queue::new(QueueConfig {
            capacity: waiting as usize,
            full_policy: FullPolicy::Reject,
            batch_max_wait_ms: 600_000,
        });
        for n in 0..waiting {
            let class = if n % 4 == 3 {
                Priority::Batch
            } else {
                Priority::Interactive
            };
            let pushed = queue.push(task(n), class, NOW_MS, Job::new(spec()));
            drop(black_box(pushed));
        }
        Self {
            measured,
            snapshot,
            queue,
        }
    }

    fn board(&self) -> Board {
        Board::new(
            &self.measured,
            &self.snapshot,
            slots,
            &self.queue,
            |_| Some(SIZE),
            NOW_MS,
        )
    }
}

/// All busy, each task a little further.
fn slots(view: &PoolView) -> PoolSlots<'_> {
    let running = |n: u32| Running {
        demand: SIZE.demand,
        elapsed_ms: 500 + u64::from(n) * 300,
        generated: 10 + n * 20,
        decode_ms: 400 + u64::from(n) * 300,
        idle_ms: 5,
    };
    PoolSlots {
        pool_id: &view.pool_id,
        model_id: &view.model_id,
        free: 0,
        running: (0..SLOTS).map(running).collect(),
        coming: Vec::new(),
    }
}

#[divan::bench(args = SIZES)]
fn whole_queue(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let site = Site::new(size);
    bencher.bench_local(|| black_box(&site).board());
}

/// One newcomer on a board that is there.
#[divan::bench(args = SIZES)]
fn one_more(bencher: Bencher<'_, '_>, size: (u32, u32)) {
    let site = Site::new(size);
    let (board, spec) = (site.board(), spec());
    let mut n = size.1;
    bencher.with_inputs(|| board.clone()).bench_local_refs(|board| {
        n += 1;
        board.join(&site.measured, task(n), &spec, &SIZE, NOW_MS);
    });
}
