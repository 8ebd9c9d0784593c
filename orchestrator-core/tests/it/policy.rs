//! Each filter, override and score field alone: what it decides and what it says.
#![expect(clippy::panic, reason = "a decision of another kind fails the test")]

use api_types::{Determinism, EngineKind, ErrorCode, PlacementOverrides, Workload};
use orchestrator_core::policy::{
    Filter, Infeasible, JobSpec, Loadable, Outcome, PlacementDecision, PlacementInput, PoolView, Readiness,
    Refused, ScoreField, Snapshot, WaitReason, can_start_now, decide,
};

use super::fixtures::{avoid, job, pin, pool, pool_id, prefer, snapshot, with_placement};

fn on(job: &JobSpec, pools: impl IntoIterator<Item = PoolView>) -> PlacementDecision {
    let snapshot = snapshot(pools);
    decide(&PlacementInput::new(job, &snapshot))
}

fn placed(decision: &PlacementDecision) -> &str {
    match &decision.outcome {
        Outcome::Placed { pool_id } => pool_id.as_str(),
        other => panic!("not placed: {other:?}"),
    }
}

fn refused(decision: PlacementDecision) -> (ErrorCode, &'static str, String) {
    match decision.outcome {
        Outcome::Refused(refused) => (
            refused.refusal.code(),
            refused.refusal.reason(),
            refused.to_string(),
        ),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_pool_is_found_by_served_name_and_by_configured_reference() {
    for name in ["tiny", "file:/models/tiny.gguf"] {
        let mut job = job();
        job.needs.model_ref = name.parse().unwrap();
        assert_eq!(placed(&on(&job, [pool("gpu0")])), "gpu0");
    }
}

#[test]
fn an_unknown_model_is_not_the_same_as_no_pools() {
    let mut job = job();
    job.needs.model_ref = "huge".parse().unwrap();
    let unknown = refused(on(&job, [pool("gpu0")]));
    assert_eq!(
        unknown,
        (
            ErrorCode::NotFound,
            "unknown_model",
            "no pool serves the model huge".into()
        )
    );
    let empty = refused(on(&job, []));
    assert_eq!(
        empty,
        (
            ErrorCode::PoolUnavailable,
            "no_feasible_pool",
            "no pool can serve the task".into()
        )
    );
}

/// ORCH-3251, ORCH-3901.
#[test]
fn too_much_context_is_refused_with_the_numbers() {
    let mut job = job();
    job.ctx_tokens = 5000;
    let small = PoolView {
        ctx_max: 2048,
        ..pool("gpu1")
    };
    assert_eq!(
        refused(on(&job, [small, pool("gpu0")])),
        (
            ErrorCode::InvalidParams,
            "context_too_large",
            "the task needs 5000 tokens of context, the largest slot of this model has 4096: \
             pool gpu0 has 4096 tokens of context, the task needs 5000; \
             pool gpu1 has 2048 tokens of context, the task needs 5000"
                .into()
        )
    );
}

/// ORCH-3251.
#[test]
fn context_up_to_the_slot_fits() {
    let mut job = job();
    job.ctx_tokens = 4096;
    assert_eq!(placed(&on(&job, [pool("gpu0")])), "gpu0");
}

/// ORCH-3901.
#[test]
fn engine_workload_and_device_mask_tell_pools_apart_and_say_how() {
    let mut engine = job();
    engine.needs.engine = Some(EngineKind::Vllm);
    let vllm = PoolView {
        engine: EngineKind::Vllm,
        ..pool("gpu1")
    };
    let mut workload = job();
    workload.needs.workload = Workload::Rerank;
    let ranking = PoolView {
        workloads: vec![Workload::Rerank],
        ..pool("gpu1")
    };
    let mask = with_placement(PlacementOverrides {
        require_device_mask: Some("GPU-gpu1".into()),
        ..PlacementOverrides::default()
    });
    for (job, fitting, says) in [
        (engine, vllm, "pool gpu0 runs llamacpp, the task asks for vllm"),
        (workload, ranking, "pool gpu0 does not do rerank"),
        (
            mask,
            pool("gpu1"),
            "pool gpu0 does not run on exactly the required GPUs",
        ),
    ] {
        assert_eq!(placed(&on(&job, [pool("gpu0"), fitting.clone()])), "gpu1");
        assert_eq!(Infeasible::of(&job, &fitting), None);
        let (code, reason, message) = refused(on(&job, [pool("gpu0")]));
        assert_eq!((code, reason), (ErrorCode::PoolUnavailable, "no_feasible_pool"));
        assert_eq!(message, format!("no pool can serve the task: {says}"));
    }
}

#[test]
fn a_device_mask_is_a_set() {
    let both = PoolView {
        device_mask: vec!["GPU-b".into(), "GPU-a".into()],
        ..pool("both")
    };
    let one = PoolView {
        device_mask: vec!["GPU-a".into()],
        ..pool("a-one")
    };
    for (mask, expected) in [("GPU-a, GPU-b", "both"), ("GPU-a", "a-one")] {
        let job = with_placement(PlacementOverrides {
            require_device_mask: Some(mask.into()),
            ..PlacementOverrides::default()
        });
        assert_eq!(placed(&on(&job, [both.clone(), one.clone()])), expected);
    }
}

#[test]
fn strict_determinism_needs_a_pool_that_promises_it() {
    let mut job = job();
    job.needs.determinism = Determinism::Strict;
    let (code, reason, _) = refused(on(&job, [pool("gpu0")]));
    assert_eq!(
        (code, reason),
        (ErrorCode::PoolUnavailable, "no_deterministic_pool")
    );
    let promising = PoolView {
        deterministic: true,
        ..pool("gpu1")
    };
    assert_eq!(placed(&on(&job, [pool("gpu0"), promising])), "gpu1");
}

#[test]
fn a_pin_holds_even_when_another_pool_is_free() {
    let busy = PoolView {
        slots_free: 0,
        ..pool("gpu0")
    };
    let decision = on(&with_placement(pin("gpu0")), [busy, pool("gpu1")]);
    let waits = Outcome::Wait {
        pool_id: pool_id("gpu0"),
        because: WaitReason::Busy,
    };
    assert_eq!(decision.outcome, waits);
    assert!(decision.log.pinned && !decision.log.fallback_used);
}

#[test]
fn an_infeasible_pin_says_what_is_wrong_with_the_pinned_pool() {
    let small = PoolView {
        ctx_max: 50,
        ..pool("gpu0")
    };
    let other = PoolView {
        model_id: "large".parse().unwrap(),
        model_ref: "file:/models/large.gguf".parse().unwrap(),
        ..pool("gpu0")
    };
    let cannot = "the pinned pool cannot serve the task: pool gpu0";
    for (gpu0, says) in [
        (
            Some(small),
            format!("{cannot} has 50 tokens of context, the task needs 100"),
        ),
        (Some(other), format!("{cannot} serves the model large")),
        (None, "there is no pool gpu0, which the task pins".into()),
    ] {
        let pools = gpu0.into_iter().chain([pool("gpu1")]);
        let refused = refused(on(&with_placement(pin("gpu0")), pools));
        assert_eq!(
            refused,
            (ErrorCode::PoolUnavailable, "pinned_pool_infeasible", says)
        );
    }
}

#[test]
fn a_pin_does_not_hide_that_no_pool_has_enough_context() {
    let mut job = with_placement(pin("gpu0"));
    job.ctx_tokens = 9000;
    let larger = PoolView {
        ctx_max: 8192,
        ..pool("gpu1")
    };
    let (code, _, message) = refused(on(&job, [pool("gpu0"), larger]));
    assert_eq!(code, ErrorCode::InvalidParams);
    assert_eq!(
        message,
        "the task needs 9000 tokens of context, the largest slot of this model has 8192: \
         pool gpu0 has 4096 tokens of context, the task needs 9000"
    );
}

#[test]
fn speeds_that_differ_by_noise_leave_the_choice_to_the_load() {
    let measured = |name, mtps, slots_free| PoolView {
        decode_mtps: Some(mtps),
        slots_free,
        ..pool(name)
    };
    let decision = on(&job(), [measured("a", 43_100, 2), measured("b", 42_500, 3)]);
    assert_eq!(
        (placed(&decision), &decision.log.tie_breakers_applied[..]),
        ("b", &[ScoreField::Load][..])
    );
    let decision = on(&job(), [measured("a", 60_000, 2), measured("b", 42_500, 3)]);
    assert_eq!(
        (placed(&decision), &decision.log.tie_breakers_applied[..]),
        ("a", &[ScoreField::DecodeSpeed][..])
    );
    let decision = on(
        &job(),
        [
            measured("a", 0, 4),
            measured("b", 1, 1),
            measured("c", u64::MAX, 1),
        ],
    );
    assert_eq!(placed(&decision), "c");
}

#[test]
fn preference_orders_free_pools_and_falls_back_rather_than_wait() {
    let pools = || [pool("a"), pool("b"), pool("c")];
    let decision = on(&with_placement(prefer(&["c", "b"], true)), pools());
    assert_eq!((placed(&decision), decision.log.fallback_used), ("c", false));
    let busy = pools().map(|pool| PoolView {
        slots_free: u32::from(pool.pool_id.as_str() == "a"),
        ..pool
    });
    let decision = on(&with_placement(prefer(&["c", "b"], true)), busy.clone());
    assert_eq!((placed(&decision), decision.log.fallback_used), ("a", true));
    let decision = on(&with_placement(prefer(&["c", "b"], false)), busy);
    assert_eq!(decision.outcome.pool_id(), Some(&pool_id("c")));
    assert_eq!(decision.outcome.as_str(), "wait");
}

#[test]
fn without_fallback_preferred_and_avoided_bind() {
    let (code, reason, _) = refused(on(&with_placement(prefer(&["b"], false)), [pool("a")]));
    assert_eq!(
        (code, reason),
        (ErrorCode::PoolUnavailable, "no_preferred_feasible")
    );
    let (code, reason, message) = refused(on(&with_placement(avoid(&["a"], false)), [pool("a")]));
    assert_eq!((code, reason), (ErrorCode::PoolUnavailable, "no_feasible_pool"));
    assert_eq!(
        message,
        "no pool can serve the task: pool a is one the task avoids"
    );
    let decision = on(&with_placement(avoid(&["a"], true)), [pool("a")]);
    assert_eq!((placed(&decision), decision.log.fallback_used), ("a", true));
    let decision = on(&with_placement(avoid(&["a"], true)), [pool("a"), pool("b")]);
    assert_eq!((placed(&decision), decision.log.fallback_used), ("b", false));
}

#[test]
fn a_starting_pool_is_waited_for_and_a_dead_one_is_not() {
    let in_state = |readiness| PoolView {
        readiness,
        ..pool("gpu0")
    };
    let decision = on(&job(), [in_state(Readiness::Starting)]);
    let waits = Outcome::Wait {
        pool_id: pool_id("gpu0"),
        because: WaitReason::Starting,
    };
    assert_eq!(decision.outcome, waits);
    for (readiness, says) in [(Readiness::Draining, "draining"), (Readiness::Down, "down")] {
        let (code, reason, message) = refused(on(&job(), [in_state(readiness)]));
        assert_eq!((code, reason), (ErrorCode::PoolUnready, "not_ready"));
        assert_eq!(
            message,
            format!("no pool that can serve the task is ready: pool gpu0 is {says}")
        );
    }
}

/// REQ-MODEL-SWAP-COST.
#[test]
fn a_load_counts_with_what_it_costs() {
    let busy = |free_in| PoolView {
        slots_free: 0,
        predicted_free_ms: free_in,
        ..pool("busy")
    };
    let other = |load_ms| PoolView {
        model_id: "other".parse().unwrap(),
        model_ref: "file:/models/other.gguf".parse().unwrap(),
        loadable: vec![Loadable {
            model_id: "tiny".parse().unwrap(),
            model_ref: "file:/models/tiny.gguf".parse().unwrap(),
            load_ms,
        }],
        ..pool("other")
    };
    let working = PoolView {
        slots_free: 3,
        predicted_free_ms: Some(50_000),
        ..other(Some(5_000))
    };
    let cases = [
        (busy(Some(60_000)), other(Some(5_000)), "other"),
        (busy(Some(4_000)), other(Some(5_000)), "busy"),
        // What runs there has to end first.
        (busy(Some(54_000)), working.clone(), "busy"),
        (busy(Some(56_000)), working, "other"),
        // What nobody has measured is no reason to wait for it.
        (busy(Some(60_000)), other(None), "busy"),
        (busy(None), other(None), "busy"),
    ];
    for (loaded, loadable, expected) in cases {
        let decision = on(&job(), [loaded, loadable.clone()]);
        let Outcome::Wait { pool_id, because } = &decision.outcome else {
            panic!("{decision:?}")
        };
        assert_eq!(pool_id.as_str(), expected);
        assert_eq!(*because == WaitReason::Loadable, expected == "other");
        // Its free slots are not for this model.
        assert!(!can_start_now(&job(), &loadable));
    }
}

/// Pool `b` is better in one field and worse in all after it, so only the order of fields can
/// make it win.
/// ORCH-3904, ORCH-3905.
#[test]
fn each_score_field_outranks_all_after_it() {
    let worst = |name| PoolView {
        slots_total: 10,
        slots_free: 1,
        decode_mtps: Some(1),
        vram_free_bytes: None,
        ..pool(name)
    };
    let best = |name| PoolView {
        slots_free: 10,
        decode_mtps: Some(9),
        vram_free_bytes: Some(9),
        ..worst(name)
    };
    let plain = job();
    let prefers_b = with_placement(prefer(&["b"], true));
    let warm_b = JobSpec {
        last_pool: Some(pool_id("b")),
        ..job()
    };
    let prefers_b_warm_a = JobSpec {
        last_pool: Some(pool_id("a")),
        ..prefers_b
    };
    let prefers_a = with_placement(prefer(&["a"], true));
    let free = |n| {
        move |pool: PoolView| PoolView {
            slots_free: n,
            ..pool
        }
    };
    let cases = [
        (
            ScoreField::Availability,
            prefers_a,
            free(0)(best("a")),
            worst("b"),
        ),
        (ScoreField::OverrideRank, prefers_b_warm_a, best("a"), worst("b")),
        (ScoreField::SessionWarmth, warm_b, best("a"), worst("b")),
        (
            ScoreField::DecodeSpeed,
            plain.clone(),
            best("a"),
            PoolView {
                decode_mtps: Some(10),
                ..worst("b")
            },
        ),
        (
            ScoreField::DecodeSpeed,
            plain.clone(),
            best("a"),
            PoolView {
                decode_mtps: None,
                ..worst("b")
            },
        ),
        (
            ScoreField::Load,
            plain.clone(),
            PoolView {
                slots_free: 5,
                ..best("a")
            },
            PoolView {
                slots_free: 6,
                decode_mtps: Some(9),
                ..worst("b")
            },
        ),
        (
            ScoreField::FreeVram,
            plain.clone(),
            best("a"),
            PoolView {
                vram_free_bytes: Some(10),
                ..best("b")
            },
        ),
        (ScoreField::PoolId, plain, best("c"), best("b")),
    ];
    for (field, job, a, b) in cases {
        let decision = on(&job, [a, b]);
        assert_eq!(
            (placed(&decision), &decision.log.tie_breakers_applied[..]),
            ("b", &[field][..])
        );
    }
}

#[test]
fn among_busy_pools_the_one_that_frees_first_is_expected_to_take_it() {
    let busy = |name, ms| PoolView {
        slots_free: 0,
        predicted_free_ms: ms,
        decode_mtps: Some(9),
        ..pool(name)
    };
    let decision = on(
        &job(),
        [busy("a", None), busy("b", Some(900)), busy("c", Some(100))],
    );
    assert_eq!(decision.outcome.pool_id(), Some(&pool_id("c")));
    assert_eq!(decision.log.tie_breakers_applied, [ScoreField::PredictedStart]);
}

/// ORCH-3411, ORCH-3901.
#[test]
fn the_log_counts_each_pool_at_the_first_filter_it_fails() {
    let mut job = with_placement(avoid(&["d"], false));
    job.needs.engine = Some(EngineKind::Llamacpp);
    let decision = on(
        &job,
        [
            PoolView {
                model_id: "large".parse().unwrap(),
                model_ref: "large".parse().unwrap(),
                ctx_max: 1,
                ..pool("a")
            },
            PoolView {
                engine: EngineKind::Vllm,
                ctx_max: 1,
                ..pool("b")
            },
            PoolView {
                ctx_max: 1,
                readiness: Readiness::Down,
                ..pool("c")
            },
            pool("d"),
            PoolView {
                readiness: Readiness::Down,
                ..pool("e")
            },
            pool("f"),
            pool("g"),
        ],
    );
    let removed: Vec<(Filter, u32)> = decision
        .log
        .filters_applied
        .iter()
        .map(|f| (f.filter, f.removed))
        .collect();
    assert_eq!(
        removed,
        [
            (Filter::Model, 1),
            (Filter::Engine, 1),
            (Filter::Workload, 0),
            (Filter::Context, 1),
            (Filter::Avoided, 1),
            (Filter::Draining, 0),
            (Filter::Down, 1),
        ]
    );
    assert_eq!(
        (decision.log.candidates_considered, decision.log.snapshot_version),
        (2, 7)
    );
    assert_eq!(placed(&decision), "f");
}

#[test]
fn a_message_names_at_most_eight_pools() {
    let mut job = job();
    job.ctx_tokens = 9000;
    let (_, _, message) = refused(on(&job, (0..12).map(|n| pool(&format!("gpu{n:02}")))));
    assert!(
        message.ends_with("pool gpu07 has 4096 tokens of context, the task needs 9000; and 4 more"),
        "{message}"
    );
}

#[test]
fn stored_forms() {
    let mut job = with_placement(prefer(&["gpu1"], true));
    job.last_pool = Some(pool_id("gpu0"));
    let snapshot: Snapshot = snapshot([
        pool("gpu0"),
        PoolView {
            decode_mtps: Some(42_500),
            ..pool("gpu1")
        },
    ]);
    let input = PlacementInput::new(&job, &snapshot);
    insta::assert_snapshot!(serde_json::to_string_pretty(&input).unwrap());
    insta::assert_snapshot!(serde_json::to_string_pretty(&decide(&input)).unwrap());
    let refused = decide(&PlacementInput::new(&with_placement(pin("gpu9")), &snapshot));
    let text = serde_json::to_string_pretty(&refused).unwrap();
    insta::assert_snapshot!(text);
    let read: PlacementDecision = serde_json::from_str(&text).unwrap();
    assert!(matches!(read.outcome, Outcome::Refused(Refused { .. })));
    assert_eq!(read, refused);
}
