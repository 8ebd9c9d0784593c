//! The breaker around a real engine that goes down and comes back.

use adapter_api::AdapterErrorKind;
use adapter_host::{AdapterHost, BreakerState};
use test_harness_support::scripted_engine::{EngineError, Fault, FaultKind, Health, Script, ScriptedEngine};

use crate::common::{OPTIONS, bind, completions, generate, host, job, later, seen, target};

fn state(host: &AdapterHost) -> BreakerState {
    host.snapshot()[0].breaker
}

fn well() -> Script {
    Script::default().tokens(20)
}

fn dying() -> Script {
    well().fault(Fault::at(2, FaultKind::Rst))
}

/// An engine whose streams break off until its breaker is open.
async fn broken() -> (AdapterHost, ScriptedEngine) {
    let (host, engine) = (host(), ScriptedEngine::start(dying()).await.unwrap());
    bind(&host, 1, &engine);
    for fault in 1..=OPTIONS.breaker.faults_to_open {
        assert_eq!(state(&host), BreakerState::Closed, "before fault {fault}");
        assert_eq!(generate(&host).await.unwrap_err().kind, AdapterErrorKind::Reset);
    }
    assert_eq!(state(&host), BreakerState::Open);
    (host, engine)
}

/// ORCH-3602.
#[tokio::test]
async fn an_engine_that_keeps_dying_is_left_alone() {
    let (host, engine) = broken().await;
    let before = engine.report().requests_total;
    let error = generate(&host).await.unwrap_err();
    assert_eq!(error.kind, AdapterErrorKind::Unavailable);
    assert!(error.retriable_before_first_token());
    let longest = 2 * OPTIONS.breaker.cooldown.as_millis();
    assert!(
        error
            .retry_after_ms
            .is_some_and(|ms| ms > 0 && u128::from(ms) <= longest),
        "{error:?}"
    );
    assert_eq!(engine.report().requests_total, before, "the engine was asked");
    assert!(
        host.health(&target()).await.is_ok(),
        "health passes by the breaker"
    );
}

/// ORCH-3602.
#[tokio::test]
async fn one_probe_closes_it_when_the_engine_is_back() {
    let (host, engine) = broken().await;
    later(2 * OPTIONS.breaker.cooldown).await;
    engine.set_script(well().paced(1_000, 0));
    let before = engine.report();
    let (target, job) = (target(), job(64));
    let (probe, refused) = tokio::join!(host.submit(&target, &job), async {
        seen(&engine, "the probe's generation", |r| {
            completions(r) > completions(&before)
        })
        .await;
        assert_eq!(state(&host), BreakerState::HalfOpen);
        generate(&host).await
    });
    assert_eq!(refused.unwrap_err().kind, AdapterErrorKind::Unavailable);
    crate::common::drain(probe.unwrap()).await.unwrap();
    assert_eq!(state(&host), BreakerState::Closed);
    generate(&host).await.unwrap();
    let asked: Vec<String> = engine.report().requests.into_iter().map(|r| r.target).collect();
    assert_eq!(
        asked[asked.len() - 3..],
        ["/health", "/completion", "/completion"],
        "health goes before the probe"
    );
}

#[tokio::test]
async fn a_probe_does_not_risk_a_task_on_an_engine_that_is_unwell() {
    let (host, engine) = broken().await;
    later(2 * OPTIONS.breaker.cooldown).await;
    engine.set_script(Script {
        health: Health::Error,
        ..well()
    });
    let before = completions(&engine.report());
    assert_eq!(
        generate(&host).await.unwrap_err().kind,
        AdapterErrorKind::Unavailable
    );
    assert_eq!(completions(&engine.report()), before);
    assert_eq!(state(&host), BreakerState::Open);
}

#[tokio::test]
async fn a_probe_that_dies_opens_it_for_longer() {
    let (host, _engine) = broken().await;
    later(2 * OPTIONS.breaker.cooldown).await;
    assert_eq!(generate(&host).await.unwrap_err().kind, AdapterErrorKind::Reset);
    let error = generate(&host).await.unwrap_err();
    let shortest = 2 * OPTIONS.breaker.cooldown.as_millis();
    // Some milliseconds have passed since it opened.
    assert!(
        error
            .retry_after_ms
            .is_some_and(|ms| u128::from(ms) + 60_000 > shortest),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_probe_that_is_cancelled_makes_room_for_the_next() {
    let (host, engine) = broken().await;
    later(2 * OPTIONS.breaker.cooldown).await;
    engine.set_script(well().paced(600_000, 0));
    let before = completions(&engine.report());
    let (target, job) = (target(), job(64));
    tokio::select! {
        _ = host.submit(&target, &job) => panic!("the first token is ten minutes away"),
        () = seen(&engine, "the probe", |r| completions(r) > before) => {}
    }
    engine.set_script(well());
    generate(&host).await.unwrap();
    assert_eq!(state(&host), BreakerState::Closed);
}

#[tokio::test]
async fn an_engine_that_is_gone_opens_it_too_and_a_new_generation_starts_afresh() {
    let (host, engine) = (host(), ScriptedEngine::start(well()).await.unwrap());
    bind(&host, 1, &engine);
    generate(&host).await.unwrap();
    drop(engine);
    let mut faults = 0;
    while state(&host) == BreakerState::Closed {
        let error = generate(&host).await.unwrap_err();
        assert!(error.retriable_before_first_token(), "{error:?}");
        faults += 1;
        assert!(faults <= OPTIONS.breaker.faults_to_open);
    }
    let next = ScriptedEngine::start(well()).await.unwrap();
    bind(&host, 2, &next);
    generate(&host).await.unwrap();
}

#[tokio::test]
async fn refusals_are_answers() {
    let refusing = |code, kind: &str, message: &str| Script {
        refuse_completions: Some(EngineError::new(code, kind, message)),
        ..well()
    };
    let (host, engine) = (host(), ScriptedEngine::start(well()).await.unwrap());
    bind(&host, 1, &engine);
    for script in [
        refusing(400, "invalid_request_error", "Prompt contains invalid tokens"),
        refusing(503, "unavailable_error", "no slot available"),
        refusing(501, "not_supported_error", "not here"),
    ] {
        engine.set_script(script);
        for _ in 0..2 * OPTIONS.breaker.faults_to_open {
            generate(&host).await.unwrap_err();
        }
        assert_eq!(state(&host), BreakerState::Closed);
    }
}
