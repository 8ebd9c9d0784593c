//! The adapter against the scripted engine: a live server in the same dialect that goes wrong on request.

use std::future::poll_fn;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use adapter_api::{Adapter, AdapterErrorKind as Kind, FinishCause, Health, Timeouts, TokenBatch};
use api_types::{KvHint, Sampling};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use test_harness_support::scripted_engine::{
    DISCLAIMER, End, EngineError, Fault, FaultKind, Health as ScriptedHealth, Launch, RequestRecord, Script,
    ScriptedEngine, Text,
};
use test_harness_support::wait::{Look, wait_for};
use tokio::runtime::Builder;

use crate::common::{HASTY, Output, PATIENT, adapter, config, drain, generate, job};

/// Bound of every wait for a condition.
const LONG: Duration = Duration::from_secs(30);

async fn engine(script: Script) -> ScriptedEngine {
    ScriptedEngine::start(script).await.unwrap()
}

async fn run(script: Script, timeouts: Timeouts) -> Output {
    let engine = engine(script).await;
    generate(&adapter(&engine.base_url(), None, timeouts), &job("the moon", 64)).await
}

/// The completion that the engine saw last, once it is `end`.
async fn completion_that_ended(engine: &ScriptedEngine, end: End) -> RequestRecord {
    let look = || async {
        let last = engine
            .report()
            .requests
            .into_iter()
            .rfind(|r| r.target == "/completion");
        match last {
            Some(request) if request.end == end => Look::Ready(request),
            other => Look::NotYet(other),
        }
    };
    wait_for("the completion's end", LONG, look).await.unwrap()
}

#[tokio::test]
async fn an_engine_is_loading_then_ready() {
    let engine = engine(Script::default().loading_for(300)).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    assert_eq!(adapter.health().await, Ok(Health::Loading));
    let error = generate(&adapter, &job("hi", 4)).await.end.unwrap_err();
    assert_eq!(error.kind, Kind::NotReady, "{error}");
    let look = || async {
        match adapter.health().await {
            Ok(Health::Ready) => Look::Ready(()),
            other => Look::NotYet(other),
        }
    };
    wait_for("ready", LONG, look).await.unwrap();
    let props = adapter.props().await.unwrap();
    assert_eq!(
        (props.slots_total, props.engine_version.as_deref()),
        (Some(4), Some("b0-scripted"))
    );
    assert!(adapter.count_tokens("the moon").await.unwrap().unwrap() > 0);
}

#[tokio::test]
async fn an_engine_that_is_unwell_says_what_it_said() {
    let script = Script {
        health: ScriptedHealth::Error,
        ..Script::default()
    };
    let engine = engine(script).await;
    let found = adapter(&engine.base_url(), None, PATIENT).health().await;
    assert!(
        matches!(&found, Ok(Health::Unhealthy { detail }) if detail.contains("500")),
        "{found:?}"
    );
}

/// ORCH-3276.
#[tokio::test]
async fn nobody_listens() {
    let engine = engine(Script::default()).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    drop(engine);
    let look = || async {
        match adapter.health().await {
            Err(error) if error.kind == Kind::NotReady => Look::Ready(()),
            other => Look::NotYet(other),
        }
    };
    wait_for("a refused connection", LONG, look).await.unwrap();
    assert_eq!(
        generate(&adapter, &job("hi", 4)).await.error_kind(),
        Some(Kind::NotReady)
    );
}

#[tokio::test]
async fn a_generation_from_submit_to_finish() {
    let output = run(Script::default().tokens(20), PATIENT).await;
    assert!(output.texts.concat().starts_with(DISCLAIMER), "{output:?}");
    let finish = output.end.unwrap();
    assert_eq!(finish.cause, FinishCause::Stop);
    assert!(finish.tokens_in > 0);
    assert_eq!(finish.tokens_out, output.generated);
    let engine = engine(Script::default().tokens(20)).await;
    let cut = generate(&adapter(&engine.base_url(), None, PATIENT), &job("the moon", 5)).await;
    assert_eq!(cut.texts.len(), 5);
    let finish = cut.end.unwrap();
    assert_eq!((finish.cause, finish.tokens_out), (FinishCause::Length, 5));
}

/// ORCH-3278.
/// REQ-FAULT-ENGINE-PARAMETERS.
#[tokio::test]
async fn only_the_listed_fields_and_our_own_headers_are_sent() {
    let launch = Launch {
        api_keys: vec!["k-engine".into()],
        ..Launch::default()
    };
    let engine = ScriptedEngine::launch(launch, Script::default()).await.unwrap();
    let mut job = job("the moon", 4);
    job.kv_hint = KvHint::Cold;
    job.sampling = Sampling {
        temperature: Some(0.5),
        stop: vec!["x".into()],
        ..Sampling::default()
    };
    generate(&adapter(&engine.base_url(), Some("k-engine"), PATIENT), &job)
        .await
        .end
        .unwrap();
    let request = completion_that_ended(&engine, End::Answered(200)).await;
    let mut body = request.body.unwrap();
    assert!(body["response_fields"].take().is_array());
    assert_eq!(
        body,
        json!({"prompt": "the moon", "n_predict": 4, "seed": 42, "cache_prompt": false, "stream": true,
            "temperature": 0.5, "stop": ["x"], "response_fields": Value::Null})
    );
    let names: Vec<&str> = request.headers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "accept",
            "authorization",
            "connection",
            "content-length",
            "content-type",
            "host",
            "user-agent"
        ]
    );
    assert_eq!(request.headers["authorization"], "Bearer k-engine");
    assert_eq!(request.headers["connection"], "close");
}

#[tokio::test]
async fn a_wrong_key_is_a_matter_of_configuration() {
    let launch = Launch {
        api_keys: vec!["k-engine".into()],
        ..Launch::default()
    };
    let engine = ScriptedEngine::launch(launch, Script::default()).await.unwrap();
    let adapter = adapter(&engine.base_url(), Some("k-other"), PATIENT);
    assert_eq!(adapter.health().await, Ok(Health::Ready));
    let error = generate(&adapter, &job("hi", 4)).await.end.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("configuration"), "{error}");
    assert!(!error.message.contains("k-other"), "{error}");
}

#[tokio::test]
async fn a_prompt_beyond_the_context_is_refused_with_the_numbers() {
    let launch = Launch {
        ctx: 256,
        parallel: Some(1),
        ..Launch::default()
    };
    let engine = ScriptedEngine::launch(launch, Script::default()).await.unwrap();
    let prompt = "word ".repeat(2000);
    let error = generate(&adapter(&engine.base_url(), None, PATIENT), &job(&prompt, 4))
        .await
        .end
        .unwrap_err();
    assert_eq!(error.kind, Kind::Rejected);
    assert!(error.message.contains("256"), "{error}");
}

#[tokio::test]
async fn dropping_the_stream_cancels() {
    let script = Script {
        infinite: true,
        ..Script::default().paced(0, 2_000)
    };
    let engine = engine(script).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    let mut stream = adapter.submit(&job("the moon", 64)).await.unwrap();
    let mut batch = TokenBatch::new();
    while batch.len() < 3 {
        poll_fn(|cx| stream.poll_next(cx, &mut batch)).await.unwrap();
    }
    assert_eq!(engine.report().active, 1);
    drop(stream);
    completion_that_ended(&engine, End::ClientGone).await;
    assert_eq!(engine.report().active, 0);
}

#[tokio::test]
async fn dropping_the_submit_cancels() {
    let engine = engine(Script::default().paced(600_000, 0)).await;
    let adapter = adapter(&engine.base_url(), None, PATIENT);
    let job = job("the moon", 64);
    let submit = adapter.submit(&job);
    let active = || async {
        match engine.report().active {
            1 => Look::Ready(()),
            n => Look::NotYet(n),
        }
    };
    tokio::select! {
        _ = submit => panic!("the first token is ten minutes away"),
        arrived = wait_for("the request at the engine", LONG, active) => arrived.unwrap(),
    }
    completion_that_ended(&engine, End::ClientGone).await;
}

/// REQ-FAULT-ENGINE-BYTES.
#[tokio::test]
async fn each_fault_is_one_error_after_the_texts_before_it() {
    let healthy = run(Script::default().tokens(20), PATIENT).await;
    let after_three: Vec<String> = healthy.texts[..3].to_vec();
    for (kind, expected) in [
        (FaultKind::InStreamError(EngineError::default()), Kind::Reset),
        (
            FaultKind::InStreamError(EngineError::new(400, "invalid_request_error", "no")),
            Kind::Rejected,
        ),
        (FaultKind::CleanEof, Kind::Reset),
        (FaultKind::Fin, Kind::Reset),
        (FaultKind::CutFrame, Kind::Reset),
        (FaultKind::Rst, Kind::Reset),
        (FaultKind::Abort, Kind::Reset),
        (FaultKind::Exit(1), Kind::Reset),
        (FaultKind::Stall, Kind::Timeout),
        (FaultKind::BadUtf8, Kind::Protocol),
        (FaultKind::MalformedJson, Kind::Protocol),
        (FaultKind::Oversized(9 << 20), Kind::Protocol),
    ] {
        let timeouts = if kind == FaultKind::Stall { HASTY } else { PATIENT };
        let script = Script::default().tokens(20).fault(Fault::at(3, kind.clone()));
        let output = run(script, timeouts).await;
        assert_eq!(output.error_kind(), Some(expected), "{kind:?}: {output:?}");
        // A reset may destroy what the client has not read yet.
        let complete = !matches!(kind, FaultKind::Rst);
        assert!(after_three.starts_with(&output.texts), "{kind:?}: {output:?}");
        assert!(!complete || output.texts.len() == 3, "{kind:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_fault_in_place_of_the_first_token() {
    for (kind, expected) in [
        (FaultKind::InStreamError(EngineError::default()), Kind::Reset),
        (
            FaultKind::InStreamError(EngineError::new(503, "unavailable_error", "no slot available")),
            Kind::Exhausted,
        ),
        (FaultKind::Stall, Kind::Timeout),
    ] {
        let script = Script::default().fault(Fault::at(0, kind.clone()));
        let output = run(script, if kind == FaultKind::Stall { HASTY } else { PATIENT }).await;
        assert_eq!(output.error_kind(), Some(expected), "{kind:?}: {output:?}");
        assert!(output.texts.is_empty());
    }
}

#[tokio::test]
async fn a_large_token_is_a_token() {
    let fault = Fault::at(1, FaultKind::Oversized(1 << 20));
    let output = run(Script::default().tokens(5).fault(fault), PATIENT).await;
    assert!(output.end.is_ok(), "{:?}", output.end);
    assert_eq!(output.texts.iter().map(String::len).max(), Some(1 << 20));
}

/// ORCH-3276, ORCH-3611.
#[tokio::test]
async fn pings_are_no_progress() {
    let pinging = || Script {
        ping_interval_ms: Some(20),
        ..Script::default()
    };
    let before_the_first = run(pinging().paced(600_000, 0), HASTY).await;
    assert_eq!(before_the_first.error_kind(), Some(Kind::Timeout));
    assert!(
        before_the_first
            .end
            .unwrap_err()
            .message
            .contains("no first token within 300ms")
    );

    let between_tokens = run(pinging().paced(0, 600_000_000), HASTY).await;
    assert_eq!(between_tokens.error_kind(), Some(Kind::Timeout));
    assert!(
        between_tokens
            .end
            .unwrap_err()
            .message
            .contains("no further token within 300ms")
    );

    let slow_but_alive = run(pinging().paced(100, 50_000).tokens(4), PATIENT).await;
    assert!(slow_but_alive.end.is_ok(), "{:?}", slow_but_alive.end);
}

/// A reader that does not ask for tokens is not waiting for them.
#[tokio::test]
async fn a_slow_reader_does_not_time_the_engine_out() {
    let engine = engine(Script::default().tokens(8).paced(0, 1_000)).await;
    let adapter = adapter(&engine.base_url(), None, HASTY);
    let mut stream = adapter.submit(&job("the moon", 64)).await.unwrap();
    let mut batch = TokenBatch::new();
    poll_fn(|cx| stream.poll_next(cx, &mut batch)).await.unwrap();
    // Longer than both limits; the engine is done by then.
    let look = || async {
        match engine.report().active {
            0 => Look::Ready(()),
            n => Look::NotYet(n),
        }
    };
    wait_for("the engine's end", LONG, look).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(10 * HASTY.token_idle).await;
    tokio::time::resume();
    assert!(drain(stream).await.end.is_ok());
}

#[tokio::test]
async fn characters_stay_whole_however_bytes_arrive() {
    let script = || Script {
        text: Text::Multibyte,
        ..Script::default().tokens(12)
    };
    let whole = run(script(), PATIENT).await;
    let fragmented = Script {
        fragment_bytes: NonZeroUsize::new(1),
        ..script()
    };
    let fragmented = run(fragmented, PATIENT).await;
    assert_eq!(fragmented.texts, whole.texts);
    assert_eq!(
        (fragmented.generated, fragmented.end.is_ok()),
        (whole.generated, true)
    );
    assert!(whole.texts.iter().any(|text| !text.is_ascii()));
}

fn any_fault() -> impl Strategy<Value = Option<Fault>> {
    let kind = prop::sample::select(vec![
        FaultKind::InStreamError(EngineError::default()),
        FaultKind::CleanEof,
        FaultKind::Fin,
        FaultKind::CutFrame,
        FaultKind::Rst,
        FaultKind::BadUtf8,
        FaultKind::MalformedJson,
    ]);
    proptest::option::of((0..15_u32, kind).prop_map(|(at, kind)| Fault::at(at, kind)))
}

/// Whatever the chunking and the fault: texts of the healthy run in order, then a finish or one error. That the end comes
/// once, and that every poll brings something, is checked by `drain`.
/// REQ-FAULT-ENGINE-BYTES.
#[test]
fn token_star_then_one_end() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let healthy = runtime.block_on(run(Script::default().tokens(12), PATIENT));
    let knobs = (
        any_fault(),
        proptest::option::of(1..200_usize),
        1..6_u32,
        proptest::option::of(1..5_u32),
        any::<bool>(),
    );
    let mut runner = TestRunner::new(config(64));
    let ran = runner.run(&knobs, |(fault, fragment, per_write, empty, null_frame)| {
        let script = Script {
            fault: fault.clone(),
            fragment_bytes: fragment.and_then(NonZeroUsize::new),
            tokens_per_write: NonZeroU32::new(per_write).unwrap(),
            empty_every: empty.and_then(NonZeroU32::new),
            null_frame,
            ..Script::default().tokens(12)
        };
        let output = runtime.block_on(run(script, PATIENT));
        let text = output.texts.concat();
        match (&output.end, &fault) {
            (Ok(finish), _) => prop_assert_eq!(finish.tokens_out, output.generated),
            (Err(_), None) => prop_assert!(false, "{:?}", output),
            (Err(_), Some(_)) => {}
        }
        if empty.is_none() {
            prop_assert!(healthy.texts.concat().starts_with(&text), "{:?}", output);
            prop_assert!(output.end.is_err() || text == healthy.texts.concat());
        }
        Ok(())
    });
    ran.unwrap();
}
