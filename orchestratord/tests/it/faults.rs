//! ORCH-3208: engines that break, before and after the first token.

use serde_json::json;
use test_harness_support::scripted_engine::{EngineError, Fault, FaultKind, Script};
use test_harness_support::stream_check::Terminal;

use crate::fixture::{Fixture, fast, task, task_with};

/// What a client gets when the engine breaks after three tokens.
async fn broken_after_three(kind: FaultKind, env: &[(&str, &str)], config: &str) -> (String, String, usize) {
    let script = fast().fault(Fault::at(3, kind));
    let fixture = Fixture::start(&[("p", 1, script)], config, env).await;
    let task = fixture.submit(&task(20)).await;
    let stream = fixture.read(&task).await;
    let Terminal::Error(error) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    assert_eq!(error["pool_id"], "p");
    assert_eq!(fixture.status(&task).await["state"], "failed");
    fixture.register().await;
    fixture.wait_idle().await;
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    (text("code"), text("message"), stream.tokens.len())
}

/// REQ-FAULT-ENGINE-CRASH.
#[tokio::test]
async fn every_way_to_break_a_stream_is_one_error_event() {
    let cases = [
        (FaultKind::CleanEof, "WORKER_RESET"),
        (FaultKind::Fin, "WORKER_RESET"),
        (FaultKind::CutFrame, "WORKER_RESET"),
        (FaultKind::Rst, "WORKER_RESET"),
        (
            FaultKind::InStreamError(EngineError::new(500, "server_error", "Compute error.")),
            "WORKER_RESET",
        ),
    ];
    for (kind, code) in cases {
        let name = kind.name();
        let (got, message, tokens) = broken_after_three(kind, &[], "").await;
        assert_eq!((got.as_str(), tokens), (code, 3), "{name}: {message}");
    }
}

/// REQ-FAULT-ENGINE-HANG.
#[tokio::test]
async fn an_engine_that_stalls_times_out() {
    let config = "[orchestratord.engine]\ntoken_idle_timeout_ms = 300\n";
    let (code, message, tokens) = broken_after_three(FaultKind::Stall, &[], config).await;
    assert_eq!((code.as_str(), tokens), ("DECODE_TIMEOUT", 3), "{message}");
}

/// REQ-FAULT-ENGINE-CRASH.
#[tokio::test]
async fn a_task_that_did_not_start_is_placed_again() {
    let broken = fast().fault(Fault::at(0, FaultKind::Rst));
    let fixture = Fixture::start(&[("a", 1, broken), ("b", 1, fast())], "", &[]).await;
    let task = fixture.submit(&task(6)).await;
    let stream = fixture.read(&task).await;
    assert_eq!((stream.outcome(), stream.tokens.len()), (Some("length"), 6));
    assert_eq!(fixture.status(&task).await["pool_id"], "b");
    let actions: Vec<_> = stream
        .narration
        .iter()
        .map(|line| line["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["admission", "placement", "retry", "placement", "end"]);
}

#[tokio::test]
async fn a_task_that_never_starts_fails_in_the_end() {
    let broken = || fast().fault(Fault::at(0, FaultKind::Rst));
    let pools = [
        ("a", 1, broken()),
        ("b", 1, broken()),
        ("c", 1, broken()),
        ("d", 1, broken()),
    ];
    let fixture = Fixture::start(&pools, "", &[]).await;
    let task = fixture.submit(&task(6)).await;
    let stream = fixture.read(&task).await;
    let Terminal::Error(error) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    assert!(error["retriable"] == true, "{error}");
    fixture.register().await;
    fixture.wait_idle().await;
}

#[tokio::test]
async fn an_engine_that_refuses_the_request_is_not_asked_again() {
    let refusing = Script {
        refuse_completions: Some(EngineError::new(
            400,
            "invalid_request_error",
            "that grammar does not parse",
        )),
        ..fast()
    };
    let fixture = Fixture::start(&[("a", 1, refusing), ("b", 1, fast())], "", &[]).await;
    let task = fixture
        .submit(&task_with(
            6,
            json!({"placement": {"mode": "prefer", "prefer_pools": ["a"]}}),
        ))
        .await;
    let stream = fixture.read(&task).await;
    let Terminal::Error(error) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    assert_eq!(error["code"], "INVALID_PARAMS");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("that grammar does not parse"),
        "{error}"
    );
}

/// A card that throttles makes no error, it is slow: its pool gets work when the other has no slot to give, and then only.
/// REQ-FAULT-ENGINE-SLOW.
#[tokio::test]
async fn a_slow_pool_is_steered_away_from_and_never_left_out() {
    let pace = |us| Script::default().paced(1, us).tokens(4000);
    let pools = [("fast", 1, pace(1_000)), ("slow", 1, pace(20_000))];
    let fixture = Fixture::start(&pools, "", &[]).await;
    let placed = async |task: &str| fixture.status(task).await["pool_id"].clone();
    let mut measured = Vec::new();
    for _ in 0..2 {
        let task = fixture.submit(&task(20)).await;
        fixture.read(&task).await;
        measured.push(placed(&task).await);
        fixture.wait_idle().await;
    }
    assert_ne!(measured[0], measured[1], "each is tried before it is judged");
    for _ in 0..8 {
        let task = fixture.submit(&task(5)).await;
        fixture.read(&task).await;
        assert_eq!(placed(&task).await, "fast");
        fixture.wait_idle().await;
    }
    let both = [fixture.submit(&task(400)).await, fixture.submit(&task(5)).await];
    for (task, pool) in both.iter().zip(["fast", "slow"]) {
        fixture.read(task).await;
        assert_eq!(placed(task).await, pool);
    }
}
