//! REQ-WATCHDOG, ORCH-3209: what ends a run that does not end by itself.

use serde_json::json;
use test_harness_support::scripted_engine::Script;
use test_harness_support::stream_check::Terminal;

use crate::fixture::{Fixture, fast, paced, task};

/// The error of a task that a watchdog ended, and its tokens.
async fn timed_out(script: Script, config: &str) -> (String, usize) {
    let config = format!("[orchestratord.engine]\n{config}\n");
    let fixture = Fixture::start(&[("p", 1, script)], &config, &[]).await;
    let task = fixture.submit(&task(2000)).await;
    let stream = fixture.read(&task).await;
    let Terminal::Error(error) = &stream.terminal else {
        panic!("{:?}", stream.terminal)
    };
    assert_eq!(
        (&error["code"], &error["retriable"]),
        (&json!("DECODE_TIMEOUT"), &json!(true)),
        "{error}"
    );
    assert_eq!(fixture.status(&task).await["state"], "failed");
    fixture.wait_idle().await;
    (error["message"].as_str().unwrap().to_owned(), stream.tokens.len())
}

#[tokio::test]
async fn a_run_without_a_first_token() {
    let script = Script {
        first_token_delay_ms: 600_000,
        ..fast()
    };
    let (message, tokens) = timed_out(script, "first_token_timeout_ms = 300\nconnect_timeout_ms = 200").await;
    assert_eq!(tokens, 0, "{message}");
}

#[tokio::test]
async fn a_run_beyond_the_wall_limit() {
    let (message, tokens) = timed_out(paced(), "wall_timeout_ms = 1000").await;
    assert!(tokens > 0 && message.contains("1000 ms"), "{message}");
}

#[tokio::test]
async fn an_engine_that_overruns_max_tokens_is_cut() {
    let script = Script {
        infinite: true,
        ..paced()
    };
    let fixture = Fixture::one(1, script).await;
    let task = fixture.submit(&task(12)).await;
    let stream = fixture.read(&task).await;
    assert_eq!((stream.outcome(), stream.tokens.len()), (Some("length"), 12));
    fixture.wait_idle().await;
}
