//! ORCH-3250, ORCH-3253, ORCH-3254, ORCH-3106: bounds, classes, and no idle slot.

use serde_json::{Value, json};
use test_harness_support::http1::Call;

use crate::fixture::{Fixture, fast, paced, task, task_with};

const SMALL: &str = "[orchestratord.queue]\ncapacity = 2\n";

fn batch(tokens: u32) -> Value {
    task_with(tokens, json!({"priority": "batch"}))
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_computed_pause() {
    let fixture = Fixture::start(&[("p", 1, paced())], SMALL, &[]).await;
    let running = fixture.submit(&task(1000)).await;
    fixture
        .wait_status(&running, "the first to run", |status| {
            status["state"] == "running"
        })
        .await;
    fixture.submit(&task(4)).await;
    fixture.submit(&task(4)).await;
    let answer = fixture.post(&task(4)).await;
    let body: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (429, &json!("ADMISSION_REJECT")),
        "{body}"
    );
    assert_eq!(
        (&body["policy_label"], &body["retriable"]),
        (&json!("reject"), &json!(true))
    );
    let ms = body["retry_after_ms"].as_u64().unwrap();
    assert_eq!(answer.header("x-backoff-ms").unwrap(), ms.to_string());
    assert_eq!(
        answer.header("retry-after").unwrap(),
        ms.div_ceil(1000).to_string()
    );
}

#[tokio::test]
async fn drop_lru_drops_the_oldest_batch_task_with_its_terminal_event() {
    let config = format!("{SMALL}policy = \"drop-lru\"\n");
    let fixture = Fixture::start(&[("p", 1, paced())], &config, &[]).await;
    let running = fixture.submit(&task(1000)).await;
    fixture
        .wait_status(&running, "the first to run", |status| {
            status["state"] == "running"
        })
        .await;
    let oldest = fixture.submit(&batch(4)).await;
    let newer = fixture.submit(&batch(4)).await;
    let interactive = fixture.submit(&task(4)).await;
    let stream = fixture.read(&oldest).await;
    assert_eq!(stream.outcome(), Some("QUEUE_FULL_DROP_LRU"));
    assert_eq!(fixture.status(&oldest).await["state"], "evicted");
    assert_eq!(fixture.status(&newer).await["state"], "queued");
    assert_eq!(fixture.status(&interactive).await["queue_position"], 0);
}

#[tokio::test]
async fn interactive_goes_before_batch_and_a_later_task_takes_what_an_earlier_cannot_use() {
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], "", &[]).await;
    let pin = |pool: &str| json!({"placement": {"mode": "pin", "pin_pool_id": pool}});
    let long = fixture.submit(&task_with(1000, pin("a"))).await;
    fixture
        .wait_status(&long, "it to run", |status| status["state"] == "running")
        .await;
    let waits_for_a = fixture.submit(&task_with(4, pin("a"))).await;
    let batch_for_a = fixture
        .submit(&task_with(
            4,
            json!({"priority": "batch", "placement": pin("a")["placement"]}),
        ))
        .await;
    let later_for_a = fixture.submit(&task_with(4, pin("a"))).await;
    let for_b = fixture.submit(&task_with(4, pin("b"))).await;
    assert_eq!(
        fixture.read(&for_b).await.outcome(),
        Some("length"),
        "b is free, so it does not wait"
    );
    let position = |status: &Value| status["queue_position"].as_u64();
    assert_eq!(position(&fixture.status(&waits_for_a).await), Some(0));
    assert_eq!(position(&fixture.status(&later_for_a).await), Some(1));
    assert_eq!(position(&fixture.status(&batch_for_a).await), Some(2));
    assert_eq!(
        fixture
            .call(Call::post(&format!("/v1/tasks/{long}/cancel")))
            .await
            .status,
        204
    );
    for task in [&waits_for_a, &later_for_a, &batch_for_a] {
        assert_eq!(fixture.read(task).await.outcome(), Some("length"));
    }
    let queued_ms = |status: &Value| status["timings"]["queue_time_ms"].as_u64().unwrap();
    let batch_wait = queued_ms(&fixture.status(&batch_for_a).await);
    assert!(batch_wait >= queued_ms(&fixture.status(&later_for_a).await));
}

#[tokio::test]
async fn the_list_pages_through_every_task_once() {
    let fixture = Fixture::one(2, fast()).await;
    let mut submitted = Vec::new();
    for _ in 0..7 {
        submitted.push(fixture.submit(&task(2)).await);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tasks?limit=3".to_owned();
    loop {
        let page = fixture.get(&path).await;
        seen.extend(
            page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["task_id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/v1/tasks?limit=3&cursor={cursor}");
    }
    submitted.reverse();
    assert_eq!(seen, submitted, "newest first");
}

/// REQ-QUEUE-PER-POOL: a pile for one pool does not take the places of others.
#[tokio::test]
async fn each_pool_has_a_line_of_its_own() {
    let config = "[orchestratord.queue]\npool_capacity = 1\n";
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], config, &[]).await;
    let pin = |pool: &str| json!({"placement": {"mode": "pin", "pin_pool_id": pool}});
    for pool in ["a", "b"] {
        let long = fixture.submit(&task_with(2000, pin(pool))).await;
        fixture
            .wait_status(&long, "it to run", |status| status["state"] == "running")
            .await;
    }
    fixture.submit(&task_with(4, pin("a"))).await;
    let refused = fixture.post(&task_with(4, pin("a"))).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        refused.text().contains("the line of pool a is full with 1 tasks"),
        "{}",
        refused.text()
    );
    assert!(refused.header("retry-after").is_some(), "{}", refused.text());
    fixture.submit(&task(4)).await;
    let refused = fixture.post(&task(4)).await;
    assert!(
        refused.text().contains("the line of pool"),
        "both are full: {}",
        refused.text()
    );
}

#[tokio::test]
async fn a_full_line_drops_from_itself_only() {
    let config = "[orchestratord.queue]\npool_capacity = 1\npolicy = \"drop-lru\"\n";
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], config, &[]).await;
    let pin = |pool: &str| json!({"priority": "batch", "placement": {"mode": "pin", "pin_pool_id": pool}});
    for pool in ["a", "b"] {
        let long = fixture.submit(&task_with(2000, pin(pool))).await;
        fixture
            .wait_status(&long, "it to run", |status| status["state"] == "running")
            .await;
    }
    let for_b = fixture.submit(&task_with(4, pin("b"))).await;
    let for_a = fixture.submit(&task_with(4, pin("a"))).await;
    let newer = fixture.submit(&task_with(4, pin("a"))).await;
    assert_eq!(fixture.read(&for_a).await.outcome(), Some("QUEUE_FULL_DROP_LRU"));
    assert_eq!(fixture.status(&for_b).await["state"], "queued");
    assert_eq!(fixture.status(&newer).await["state"], "queued");
}

/// REQ-QUEUE-PER-POOL, ORCH-3711: what a restart has taken up counts in the line as before.
#[tokio::test]
async fn what_a_restart_takes_up_stands_in_line_again() {
    let config = "[orchestratord.queue]\npool_capacity = 2\n";
    let mut fixture = Fixture::start(&[("p", 1, paced())], config, &[]).await;
    let long = fixture.submit(&task(2000)).await;
    fixture
        .wait_status(&long, "it to run", |status| status["state"] == "running")
        .await;
    let first = fixture.submit(&task(4)).await;
    let second = fixture.submit(&task(4)).await;
    fixture.crash().await;
    fixture.register().await;
    let refused = fixture.post(&task(4)).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(
        refused.text().contains("the line of pool p is full with 2 tasks"),
        "{}",
        refused.text()
    );
    fixture
        .wait_status(&long, "it to run again", |status| status["state"] == "running")
        .await;
    let position = |status: Value| status["queue_position"].as_u64();
    assert_eq!(position(fixture.status(&first).await), Some(0));
    assert_eq!(position(fixture.status(&second).await), Some(1));
}
