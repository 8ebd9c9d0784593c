//! REQ-RATE-LIMIT over the built binary.

use serde_json::{Value, json};
use test_harness_support::http1::Call;

use crate::fixture::{Fixture, fast, task};

#[tokio::test]
async fn submissions_beyond_the_burst_are_told_when_to_come_back() {
    let config = "[orchestratord.rate_limit]\nper_minute = 6\nburst = 2\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    let first = fixture.submit(&task(2)).await;
    fixture.submit(&task(2)).await;
    let answer = fixture.post(&task(2)).await;
    let mut body: Value = answer.json().unwrap();
    let ms = body["retry_after_ms"].take().as_u64().unwrap();
    assert!(
        (1..=20_000).contains(&ms),
        "one every 10 s, spread over as long again: {ms}"
    );
    assert_eq!(answer.header("x-backoff-ms"), Some(&*ms.to_string()));
    assert_eq!(
        answer.header("retry-after"),
        Some(&*ms.div_ceil(1000).to_string())
    );
    let correlation = answer.header("x-correlation-id").unwrap();
    assert_eq!(
        (answer.status, body),
        (
            429,
            json!({
                "code": "ADMISSION_REJECT", "message": "localhost submits tasks faster than its rate allows",
                "retriable": true, "retry_after_ms": null, "policy_label": "rate-limit", "correlation_id": correlation
            })
        )
    );
    for _ in 0..5 {
        assert_eq!(
            fixture
                .call(Call::get(&format!("/v1/tasks/{first}")))
                .await
                .status,
            200,
            "reads are not limited"
        );
        let cancel = fixture
            .call(Call::post(&format!("/v1/tasks/{first}/cancel")))
            .await;
        assert_eq!(cancel.status, 204, "cancels are not limited");
    }
    let text = fixture.call(Call::get("/metrics")).await.text();
    assert!(
        text.contains("tasks_rejected_total{engine=\"any\",reason=\"rate-limit\"} 1"),
        "{text}"
    );
    assert!(
        fixture
            .daemon
            .logs()
            .contains("Refuses a task that comes too soon.")
    );
}

#[tokio::test]
async fn nothing_is_limited_unless_configured() {
    let fixture = Fixture::one(1, fast()).await;
    for _ in 0..70 {
        let answer = fixture.post(&task(1)).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}
