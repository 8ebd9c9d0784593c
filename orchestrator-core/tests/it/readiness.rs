//! A pool's report and its node's liveness give its readiness: unknown or stale is never ready.
#![expect(clippy::unwrap_used, reason = "ids written here are well-formed")]

use api_types::pool::{PoolModel, PoolReport, ReplicaReport, ReplicaState, Residency};
use api_types::{EngineKind, Workload};
use orchestrator_core::policy::Readiness;

fn report(states: &[ReplicaState], draining: bool) -> PoolReport {
    let replica = |(i, state): (usize, &ReplicaState)| ReplicaReport {
        replica_id: format!("r{i}").parse().unwrap(),
        state: *state,
        generation: 1,
        endpoint: None,
        endpoint_key: None,
        slots_total: None,
        ctx_per_slot: None,
        engine_version: None,
        started_ms_ago: None,
        load_ms: None,
        pid: None,
        gpu_memory_bytes: None,
        restarts: 0,
        cause: None,
        last_error: None,
    };
    PoolReport {
        pool_id: "gpu0".parse().unwrap(),
        engine: EngineKind::Llamacpp,
        engine_catalog_id: None,
        engine_digest: None,
        model_id: "tiny".parse().unwrap(),
        model_ref: "tiny".parse().unwrap(),
        model_digest: None,
        model_bytes: None,
        ctx_max: 4096,
        device_mask: vec!["GPU-0".into()],
        supported_workloads: vec![Workload::Completion],
        deterministic: false,
        generation: 1,
        draining,
        unloaded: false,
        models: Vec::new(),
        residency: Residency::default(),
        operation_generation: 0,
        operation: None,
        replicas: states.iter().enumerate().map(replica).collect(),
        cause: None,
        hint: None,
    }
}

#[test]
fn the_best_replica_counts_unless_the_pool_drains_or_the_node_is_silent() {
    use ReplicaState as S;
    let cases: [(&[S], Readiness); 10] = [
        (&[], Readiness::Down),
        (&[S::Failed, S::Stopped], Readiness::Down),
        (&[S::Preflight], Readiness::Starting),
        (&[S::Starting], Readiness::Starting),
        (&[S::Loading, S::Failed], Readiness::Starting),
        (&[S::Backoff], Readiness::Starting),
        (&[S::Draining, S::Failed], Readiness::Draining),
        (&[S::Draining, S::Loading], Readiness::Starting),
        (&[S::Backoff, S::Ready], Readiness::Ready),
        (&[S::Ready, S::Draining], Readiness::Ready),
    ];
    for (states, expected) in cases {
        let pool = report(states, false);
        assert_eq!(Readiness::of(&pool, true), expected, "{states:?}");
        assert_eq!(pool.is_ready(), expected == Readiness::Ready, "{states:?}");
        assert_eq!(Readiness::of(&pool, false), Readiness::Down, "{states:?}");
        assert_eq!(
            Readiness::of(&report(states, true), true),
            Readiness::Draining,
            "{states:?}"
        );
    }
}

/// REQ-MODEL-DEMAND.
#[test]
fn an_unloaded_pool_waits_for_a_task_unless_it_is_drained_or_its_node_silent() {
    let mut pool = report(&[ReplicaState::Stopped], false);
    pool.unloaded = true;
    pool.models = vec![PoolModel {
        model_id: "tiny".parse().unwrap(),
        model_ref: "tiny".parse().unwrap(),
        bytes: None,
        weight_bytes: None,
        fetch: None,
        load_failed: None,
    }];
    assert_eq!(Readiness::of(&pool, true), Readiness::Unloaded);
    pool.models[0].load_failed = Some("no such tensor".to_owned());
    assert_eq!(Readiness::of(&pool, true), Readiness::Down);
    pool.models[0].load_failed = None;
    assert_eq!(Readiness::of(&pool, false), Readiness::Down);
    pool.draining = true;
    assert_eq!(Readiness::of(&pool, true), Readiness::Draining);
}
