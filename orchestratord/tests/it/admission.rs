//! ORCH-3101, ORCH-3103, ORCH-3105, ORCH-3961: receipts, counted prompts, idempotence, policy gates.

use serde_json::{Value, json};

use crate::fixture::{Fixture, fast, paced, task, task_with};

#[tokio::test]
async fn the_receipt_is_honest_about_what_is_not_measured() {
    let fixture = Fixture::one(1, paced()).await;
    let first: Value = fixture.post(&task(400)).await.json().unwrap();
    assert_eq!(
        (&first["queue_position"], &first["predicted_start_ms"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(first["pool_id"], "p");
    assert!(
        first.get("predicted_end_ms").is_none(),
        "nothing has been measured yet: {first}"
    );
    let second: Value = fixture.post(&task(8)).await.json().unwrap();
    assert_eq!(second["queue_position"], 0);
    assert!(
        second.get("predicted_start_ms").is_none(),
        "nothing has been measured yet: {second}"
    );
}

#[tokio::test]
async fn predictions_rest_on_measured_runs() {
    let fixture = Fixture::one(1, paced()).await;
    let warm = fixture.submit(&task(20)).await;
    fixture.read(&warm).await;
    fixture.wait_idle().await;
    let hundred = task_with(100, json!({"expected_tokens": 100}));
    let running: Value = fixture.post(&hundred).await.json().unwrap();
    let end = running["predicted_end_ms"].as_u64().unwrap();
    assert!(
        (200..20_000).contains(&end),
        "100 tokens at about 5 ms each: {running}"
    );
    let waiting: Value = fixture.post(&task(10)).await.json().unwrap();
    let start = waiting["predicted_start_ms"].as_u64().unwrap();
    assert!(
        start > 0 && start <= end + 1,
        "it waits for the one that runs: {waiting} after {running}"
    );
}

#[tokio::test]
async fn a_long_prompt_is_counted_by_the_engine_before_it_is_refused() {
    let fixture = Fixture::one(1, fast()).await;
    // At one token a byte and a few markers it might not fit; the engine's tokenizer knows that it does.
    let fits = "r".repeat(2042);
    let answer = fixture
        .post(&json!({"model_ref": "tiny", "prompt": fits, "max_tokens": 4}))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let asked = |report: &test_harness_support::scripted_engine::Report| {
        report
            .requests
            .iter()
            .any(|request| request.target == "/tokenize")
    };
    assert!(asked(&fixture.pools[0].engine.report()));
    let too_long = "river ".repeat(3000);
    let answer = fixture
        .post(&json!({"model_ref": "tiny", "prompt": too_long, "max_tokens": 4}))
        .await;
    let body: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (400, &json!("INVALID_PARAMS")),
        "{body}"
    );
    let message = body["message"].as_str().unwrap();
    assert!(
        message.starts_with("prompt: ") && message.contains("2048") && message.contains("4 tokens"),
        "{message}"
    );
}

#[tokio::test]
async fn one_id_is_one_task() {
    let fixture = Fixture::one(1, fast()).await;
    let id = "01900000-0000-7000-8000-0000000000aa";
    let body = task_with(4, json!({"task_id": id}));
    let first: Value = fixture.post(&body).await.json().unwrap();
    let again: Value = fixture.post(&body).await.json().unwrap();
    assert_eq!(first, again);
    assert_eq!(first["task_id"], id);
    let other = fixture.post(&task_with(5, json!({"task_id": id}))).await;
    assert_eq!(other.status, 409, "{}", other.text());
    assert_eq!(
        fixture.read(id).await.tokens.len(),
        4,
        "the first body is what ran"
    );
}

#[tokio::test]
async fn the_seed_is_reported_and_repeats_the_output() {
    let fixture = Fixture::one(1, fast()).await;
    let body = json!({"model_ref": "tiny", "prompt": "again", "max_tokens": 12});
    let first = fixture.read(&fixture.submit(&body).await).await;
    let seed = first.started.as_ref().unwrap()["seed"].clone();
    let repeat = fixture
        .submit(&json!({"model_ref": "tiny", "prompt": "again", "max_tokens": 12, "seed": seed}))
        .await;
    assert_eq!(fixture.read(&repeat).await.text(), first.text());
}

#[tokio::test]
async fn overrides_can_be_forbidden_by_configuration() {
    let gates = "[orchestratord.placement]\nallow_pin = false\n";
    let fixture = Fixture::start(&[("p", 1, fast())], gates, &[]).await;
    let answer = fixture
        .post(&task_with(
            4,
            json!({"placement": {"mode": "pin", "pin_pool_id": "p"}}),
        ))
        .await;
    let body: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &body["policy_label"]),
        (403, &json!("placement-policy")),
        "{body}"
    );
}
