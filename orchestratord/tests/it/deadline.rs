//! ORCH-3107: deadlines in the queue, in the stream, and those that cannot be met.

use serde_json::{Value, json};

use crate::fixture::{Fixture, paced, task, task_with};

#[tokio::test]
async fn a_deadline_in_the_stream() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture
        .submit(&task_with(1000, json!({"deadline_ms": 300})))
        .await;
    let stream = fixture.read(&task).await;
    assert_eq!(stream.outcome(), Some("deadline"));
    assert!(!stream.tokens.is_empty());
    assert_eq!(fixture.status(&task).await["state"], "expired");
    fixture.wait_idle().await;
}

#[tokio::test]
async fn a_deadline_in_the_queue() {
    let fixture = Fixture::one(1, paced()).await;
    fixture.submit(&task(1000)).await;
    let waiting = fixture.submit(&task_with(8, json!({"deadline_ms": 200}))).await;
    let stream = fixture.read(&waiting).await;
    assert_eq!((stream.outcome(), stream.tokens.len()), (Some("deadline"), 0));
}

#[tokio::test]
async fn a_deadline_that_measured_speed_already_breaks() {
    let fixture = Fixture::one(1, paced()).await;
    let warm = fixture.submit(&task(40)).await;
    fixture.read(&warm).await;
    fixture.wait_idle().await;
    let body = task_with(1000, json!({"deadline_ms": 50, "expected_tokens": 1000}));
    let answer = fixture.post(&body).await;
    let body: Value = answer.json().unwrap();
    assert_eq!(
        (answer.status, &body["code"]),
        (400, &json!("DEADLINE_UNMET")),
        "{body}"
    );
    assert!(
        body["message"].as_str().unwrap().contains("the estimate is"),
        "{body}"
    );
}
