//! Bad input gets a clear typed error that names the field and the limit (ORCH-3102).

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call, Connection};

use crate::fixture::{Fixture, fast, task_with};

fn check(answer: &Answer, status: u16, code: &str, words: &str) {
    let body: Value = answer
        .json()
        .unwrap_or_else(|error| panic!("{error}: {}", answer.text()));
    assert_eq!((answer.status, &body["code"]), (status, &json!(code)), "{body}");
    assert!(
        body["message"].as_str().unwrap().contains(words),
        "{words:?} is not in {body}"
    );
    let echoed = answer.header("x-correlation-id").unwrap();
    assert_eq!(body["correlation_id"], echoed);
}

#[tokio::test]
async fn requests_that_cannot_be_meant() {
    let fixture = Fixture::one(1, fast()).await;
    let cases = [
        (
            json!({"prompt": "x"}),
            400,
            "INVALID_PARAMS",
            "missing field `model_ref`",
        ),
        (
            json!({"model_ref": "tiny"}),
            400,
            "INVALID_PARAMS",
            "prompt: is required",
        ),
        (
            json!({"model_ref": "tiny", "prompt": ""}),
            400,
            "INVALID_PARAMS",
            "prompt: must not be empty",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "colour": 1}),
            400,
            "INVALID_PARAMS",
            "colour",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "max_tokens": "4"}),
            400,
            "INVALID_PARAMS",
            "max_tokens",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "max_tokens": -1}),
            400,
            "INVALID_PARAMS",
            "max_tokens",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "sampling": {"temperature": 9}}),
            400,
            "INVALID_PARAMS",
            "sampling.temperature: is 9, must be 0 to 2",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "sampling": {"hotness": 9}}),
            400,
            "INVALID_PARAMS",
            "hotness",
        ),
        (
            json!({"model_ref": "../etc", "prompt": "x"}),
            400,
            "INVALID_PARAMS",
            "model_ref",
        ),
        (
            json!({"model_ref": "nonesuch", "prompt": "x"}),
            404,
            "NOT_FOUND",
            "nonesuch",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "engine": "vllm"}),
            503,
            "POOL_UNAVAILABLE",
            "vllm",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "ctx": 5000}),
            400,
            "INVALID_PARAMS",
            "needs 5000 tokens of context, the largest slot of this model has 2048",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "max_tokens": 5000}),
            400,
            "INVALID_PARAMS",
            "2048",
        ),
        (
            json!({"model_ref": "tiny", "messages": [{"role": "user", "content": "x"}], "workload": "chat"}),
            503,
            "POOL_UNAVAILABLE",
            "chat",
        ),
        (
            json!({"model_ref": "tiny", "prompt": "x", "placement": {"mode": "pin"}}),
            400,
            "INVALID_PARAMS",
            "placement.pin_pool_id",
        ),
        (json!([1]), 400, "INVALID_PARAMS", ""),
    ];
    for (body, status, code, words) in cases {
        check(&fixture.post(&body).await, status, code, words);
    }
}

#[tokio::test]
async fn an_unknown_model_is_told_what_is_served() {
    let fixture = Fixture::one(1, fast()).await;
    let body: Value = fixture
        .post(&json!({"model_ref": "nonesuch", "prompt": "x"}))
        .await
        .json()
        .unwrap();
    assert!(body["hint"].as_str().unwrap().contains("tiny"), "{body}");
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let fixture = Fixture::one(1, fast()).await;
    let json_type = |call: Call| call.header("Content-Type", "application/json");
    let post = || json_type(Call::post("/v1/tasks"));
    check(
        &fixture.call(post().body("{\"model_ref\": ")).await,
        400,
        "INVALID_PARAMS",
        "EOF",
    );
    check(
        &fixture.call(post().body("{} {}")).await,
        400,
        "INVALID_PARAMS",
        "",
    );
    check(
        &fixture.call(Call::post("/v1/tasks").body("{}")).await,
        400,
        "INVALID_PARAMS",
        "Content-Type",
    );
    let large = format!(
        "{{\"model_ref\":\"tiny\",\"prompt\":\"{}\"}}",
        "x".repeat(2 << 20)
    );
    check(
        &fixture.call(post().body(large)).await,
        413,
        "PAYLOAD_TOO_LARGE",
        "1048576",
    );
}

#[tokio::test]
async fn tasks_nobody_knows() {
    let fixture = Fixture::one(1, fast()).await;
    let id = "01900000-0000-7000-8000-0000000000ff";
    check(
        &fixture.call(Call::get(&format!("/v1/tasks/{id}"))).await,
        404,
        "NOT_FOUND",
        id,
    );
    check(
        &fixture.call(Call::get(&format!("/v1/tasks/{id}/stream"))).await,
        404,
        "NOT_FOUND",
        id,
    );
    check(
        &fixture.call(Call::post(&format!("/v1/tasks/{id}/cancel"))).await,
        404,
        "NOT_FOUND",
        id,
    );
    check(
        &fixture.call(Call::get("/v1/tasks/not-a-uuid")).await,
        400,
        "INVALID_PARAMS",
        "",
    );
    check(
        &fixture.call(Call::get("/v1/pools/nope")).await,
        404,
        "NOT_FOUND",
        "nope",
    );
    check(
        &fixture.call(Call::get("/v1/tasks?limit=0")).await,
        400,
        "INVALID_PARAMS",
        "limit",
    );
    check(
        &fixture.call(Call::new("PUT", "/v1/tasks")).await,
        405,
        "INVALID_PARAMS",
        "PUT",
    );
}

#[tokio::test]
async fn garbage_event_ids() {
    let fixture = Fixture::one(1, fast()).await;
    let task = fixture.submit(&task_with(4, json!({}))).await;
    fixture.read(&task).await;
    for id in [
        "garbage",
        "0.",
        "7",
        "1.0",
        "0.-1",
        "0.99",
        "0.99999999999999999999999",
    ] {
        let call = Call::get(&format!("/v1/tasks/{task}/stream")).header("Last-Event-ID", id);
        check(&fixture.call(call).await, 400, "INVALID_PARAMS", "Last-Event-ID");
    }
}

#[tokio::test]
async fn half_a_header_is_not_waited_for() {
    let fixture = Fixture::start(&[("p", 1, fast())], "[http]\nheader_timeout_ms = 300\n", &[]).await;
    let mut connection = Connection::open(fixture.daemon.address()).await.unwrap();
    connection
        .send(b"GET /healthz HTTP/1.1\r\nHost: 127")
        .await
        .unwrap();
    // Ends only when the daemon closes the connection.
    connection.read_to_close().await.unwrap();
    assert_eq!(fixture.get("/healthz").await["status"], "ok");
}
