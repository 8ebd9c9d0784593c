//! Which engine answers for a replica, and what happens when that changes.

use std::sync::Arc;
use std::time::Duration;

use adapter_api::{AdapterErrorKind, Health};
use adapter_host::{AdapterHost, BindError, Bound, BreakerState, Target, Unbound};
use api_types::EngineKind;
use api_types::link::EngineStart;
use prometheus::Registry;
use secrecy::SecretString;
use test_harness_support::scripted_engine::{Script, ScriptedEngine};
use tokio::task::JoinSet;

use crate::common::{OPTIONS, bind, completions, drain, generate, host, job, seen, spec, target};

async fn engine() -> ScriptedEngine {
    ScriptedEngine::start(Script::default().tokens(20)).await.unwrap()
}

#[tokio::test]
async fn health_props_and_tokens_come_from_the_bound_engine() {
    let (host, engine) = (host(), engine().await);
    assert_eq!(bind(&host, 1, &engine), Bound::New);
    assert_eq!(host.health(&target()).await, Ok(Health::Ready));
    let count = host.count_tokens(&target(), "the moon").await.unwrap();
    assert!(count.is_some_and(|n| n > 0));
    let props = host.props(&target()).await.unwrap();
    assert_eq!(props.engine_version.as_deref(), Some("b0-scripted"));
    assert!(Arc::ptr_eq(&props, &host.props(&target()).await.unwrap()));
    let asked = engine
        .report()
        .requests
        .iter()
        .filter(|r| r.target == "/props")
        .count();
    assert_eq!(asked, 1, "props are asked once per generation");
    assert_eq!(host.snapshot()[0].props.as_ref(), Some(&props));
}

#[tokio::test]
async fn nobody_is_bound() {
    let host = host();
    let error = generate(&host).await.unwrap_err();
    assert_eq!(error.kind, AdapterErrorKind::Unavailable);
    assert_eq!(error.message, "no engine is bound for pool-a/r0");
    assert!(host.health(&target()).await.is_err());
    assert!(host.props(&target()).await.is_err());
    assert!(host.snapshot().is_empty());
    assert_eq!(host.unbind(&target()), Unbound::NotBound);
}

/// ORCH-3600.
#[tokio::test]
async fn a_late_report_does_not_bring_an_old_engine_back() {
    let (host, old, new) = (host(), engine().await, engine().await);
    assert_eq!(bind(&host, 4, &old), Bound::New);
    assert_eq!(bind(&host, 5, &new), Bound::Rebound);
    let Target { pool, replica } = target();
    let stale = host.bind(pool, replica, 4, spec(&old.base_url()));
    assert!(
        matches!(
            stale,
            Err(BindError::Stale {
                given: 4,
                bound: 5,
                ..
            })
        ),
        "{stale:?}"
    );
    generate(&host).await.unwrap();
    assert_eq!((completions(&old.report()), completions(&new.report())), (0, 1));
    // A node that counts anew says so by unbinding.
    assert_eq!(host.unbind(&target()), Unbound::Removed);
    assert_eq!(bind(&host, 1, &old), Bound::New);
}

#[tokio::test]
async fn the_same_report_again_changes_nothing() {
    let (host, engine) = (host(), engine().await);
    bind(&host, 1, &engine);
    let props = host.props(&target()).await.unwrap();
    assert_eq!(bind(&host, 1, &engine), Bound::Unchanged);
    assert!(Arc::ptr_eq(&props, &host.props(&target()).await.unwrap()));
    // Another key for the same process is another endpoint.
    let Target { pool, replica } = target();
    let mut keyed = spec(&engine.base_url());
    keyed.key = Some(SecretString::from("k"));
    assert_eq!(host.bind(pool, replica, 1, keyed).unwrap(), Bound::Rebound);
    assert_eq!(host.snapshot()[0].props, None);
}

/// REQ-RELAY-START: a relay is told which start is meant, and another start is another endpoint.
#[tokio::test]
async fn a_relay_is_told_which_start_of_the_engine_is_meant() {
    let (host, engine) = (host(), engine().await);
    let bind = |generation, start: u64| {
        let Target { pool, replica } = target();
        let relay = Some(EngineStart {
            instance: uuid::Uuid::from_u128(9),
            generation: start,
        });
        let spec = adapter_host::EndpointSpec {
            relay,
            ..spec(&engine.base_url())
        };
        host.bind(pool, replica, generation, spec).unwrap()
    };
    assert_eq!(bind(1, 1), Bound::New);
    assert_eq!(bind(1, 1), Bound::Unchanged);
    assert_eq!(bind(1, 2), Bound::Rebound);
    generate(&host).await.unwrap();
    let report = engine.report();
    let told = report.requests[0].headers.get("x-engine-start");
    assert_eq!(
        told.map(String::as_str),
        Some("00000000-0000-0000-0000-000000000009.2")
    );
}

#[tokio::test]
async fn what_cannot_be_bound_is_named_and_leaves_the_rest_alone() {
    let (host, engine) = (host(), engine().await);
    bind(&host, 1, &engine);
    let bind_spec = |engine: EngineKind, url: &str| {
        let Target { pool, replica } = target();
        let spec = adapter_host::EndpointSpec { engine, ..spec(url) };
        host.bind(pool, replica, 2, spec).unwrap_err().to_string()
    };
    for engine in EngineKind::ALL
        .iter()
        .filter(|kind| **kind != EngineKind::Llamacpp)
    {
        let error = bind_spec(*engine, "http://127.0.0.1:1");
        assert_eq!(error, format!("pool-a/r0: no adapter for engine {engine}"));
    }
    assert_eq!(
        bind_spec(EngineKind::Llamacpp, "not a url"),
        "pool-a/r0: the endpoint's address is no URL"
    );
    assert_eq!(
        bind_spec(EngineKind::Llamacpp, "ftp://127.0.0.1"),
        "pool-a/r0: the endpoint cannot be used"
    );
    let snapshot = host.snapshot();
    assert_eq!(
        (snapshot.len(), snapshot[0].generation, snapshot[0].breaker),
        (1, 1, BreakerState::Closed)
    );
    generate(&host).await.unwrap();
}

#[test]
fn options_that_cannot_work_are_refused() {
    let mut options = OPTIONS;
    options.timeouts.token_idle = Duration::ZERO;
    let error = AdapterHost::new(options, &Registry::new())
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "timeouts.token_idle must be longer than zero");
}

#[tokio::test]
async fn a_key_is_never_printed() {
    let mut spec = spec("http://127.0.0.1:1");
    spec.key = Some(SecretString::from("hush-hush"));
    assert!(!format!("{spec:?}").contains("hush"));
}

/// Streams that run keep their engine; every new one goes to the engine bound at that moment; none is lost.
/// ORCH-3600.
#[tokio::test]
async fn rebind_under_load() {
    let host = Arc::new(host());
    let script = || Script::default().tokens(20).paced(1, 500);
    let engines = [
        ScriptedEngine::start(script()).await.unwrap(),
        ScriptedEngine::start(script()).await.unwrap(),
    ];
    bind(&host, 1, &engines[0]);
    let held = host.submit(&target(), &job(64)).await.unwrap();
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let host = Arc::clone(&host);
        load.spawn(async move {
            for _ in 0..30 {
                let (text, finish) = generate(&host).await.unwrap();
                assert!(finish.tokens_out > 0 && !text.is_empty());
            }
        });
    }
    for generation in 2..22 {
        let engine = &engines[usize::from(generation % 2 == 0)];
        assert_eq!(bind(&host, generation, engine), Bound::Rebound);
        // Five more generations before the next change.
        let wanted = 5 * usize::try_from(generation).unwrap();
        let total = || engines.iter().map(|e| completions(&e.report())).sum::<usize>();
        seen(engine, "the load goes on", |_| total() >= wanted).await;
    }
    load.join_all().await;
    drain(held).await.unwrap();
    let [first, second] = engines.each_ref().map(|engine| completions(&engine.report()));
    assert_eq!(first + second, 121);
    assert!(first > 1 && second > 0, "{first} {second}");
}

#[tokio::test]
async fn streams_outlive_the_unbind() {
    let (host, engine) = (host(), engine().await);
    bind(&host, 1, &engine);
    let stream = host.submit(&target(), &job(64)).await.unwrap();
    host.unbind(&target());
    assert!(generate(&host).await.is_err());
    drain(stream).await.unwrap();
}

#[tokio::test]
async fn dropping_cancels_at_the_engine() {
    let host = host();
    let script = Script {
        infinite: true,
        ..Script::default().paced(0, 2_000)
    };
    let engine = ScriptedEngine::start(script).await.unwrap();
    bind(&host, 1, &engine);
    let stream = host.submit(&target(), &job(64)).await.unwrap();
    seen(&engine, "the generation runs", |report| report.active == 1).await;
    drop(stream);
    seen(&engine, "the slot is free", |report| report.active == 0).await;
    assert_eq!(host.snapshot()[0].breaker, BreakerState::Closed);
}
