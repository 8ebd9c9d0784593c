//! The sentences people read.

use api_types::PlacementOverrides;
use orchestrator_core::policy::{
    JobSpec, MAX_SENTENCE, PlacementInput, PoolView, Readiness, decide, explain,
};

use super::fixtures::{job, pin, pool, pool_id, prefer, snapshot, with_placement};

fn sentence(job: &JobSpec, pools: impl IntoIterator<Item = PoolView>) -> String {
    let snapshot = snapshot(pools);
    let input = PlacementInput::new(job, &snapshot);
    explain(&input, &decide(&input))
}

#[test]
fn each_reason_has_its_sentence() {
    let measured = |name, mtps| PoolView {
        decode_mtps: Some(mtps),
        ..pool(name)
    };
    let roomy = |name, gib: u64| PoolView {
        vram_free_bytes: Some(gib << 30),
        loadable: Vec::new(),
        ..pool(name)
    };
    let busy = |name, ms| PoolView {
        slots_free: 0,
        predicted_free_ms: ms,
        ..pool(name)
    };
    let starting = |name, ms| PoolView {
        readiness: Readiness::Starting,
        predicted_free_ms: ms,
        ..pool(name)
    };
    let warm = JobSpec {
        last_pool: Some(pool_id("gpu1")),
        ..job()
    };
    let mut deep = job();
    deep.ctx_tokens = 9000;
    let plain = job();
    let lines = [
        sentence(&plain, [pool("gpu0")]),
        sentence(&with_placement(pin("gpu1")), [pool("gpu0"), pool("gpu1")]),
        sentence(&plain, [busy("gpu0", None), pool("gpu1")]),
        sentence(
            &with_placement(prefer(&["gpu0"], true)),
            [busy("gpu0", None), pool("gpu1")],
        ),
        sentence(
            &with_placement(prefer(&["gpu1"], true)),
            [pool("gpu0"), pool("gpu1")],
        ),
        sentence(&warm, [pool("gpu0"), pool("gpu1")]),
        sentence(&plain, [measured("gpu0", 30_000), measured("gpu1", 42_570)]),
        sentence(&plain, [measured("gpu0", 30_000), pool("gpu1")]),
        sentence(
            &plain,
            [
                PoolView {
                    slots_free: 1,
                    ..pool("gpu0")
                },
                pool("gpu1"),
            ],
        ),
        sentence(&plain, [roomy("gpu0", 3), roomy("gpu1", 20)]),
        sentence(&plain, [pool("gpu1"), pool("gpu0")]),
        sentence(&plain, [busy("gpu0", Some(3250))]),
        sentence(&plain, [busy("gpu0", None)]),
        sentence(&plain, [starting("gpu0", Some(12_000))]),
        sentence(&plain, [starting("gpu0", None)]),
        sentence(&plain, []),
        sentence(&deep, [pool("gpu0")]),
    ];
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_long_pool_name_is_cut() {
    let long = "n".repeat(128);
    let others = || {
        [
            PoolView {
                slots_free: 0,
                ..pool("gpu0")
            },
            PoolView {
                decode_mtps: Some(u64::MAX),
                ..pool(&long)
            },
        ]
    };
    let job = with_placement(PlacementOverrides {
        ..prefer(&["gpu0"], true)
    });
    let sentence = sentence(&job, others());
    assert!(sentence.contains("nnnn…"), "{sentence}");
    assert!(sentence.chars().count() <= MAX_SENTENCE, "{sentence}");
}
