//! ORCH-3460, ORCH-3462: a scrape only reads, and tokens are counted once a run. The families themselves are checked by
//! `test-harness/metrics-contract`.

use serde_json::json;
use test_harness_support::http1::Call;

use crate::fixture::{Fixture, LIMIT, fast, paced, task, task_with};

#[tokio::test]
async fn a_scrape_only_reads() {
    let fixture = Fixture::one(1, fast()).await;
    fixture.read(&fixture.submit(&task(3)).await).await;
    fixture.wait_idle().await;
    let first = fixture.call(Call::get("/metrics")).await.text();
    let second = fixture.call(Call::get("/metrics")).await.text();
    assert_eq!(first, second);
}

/// ORCH-3462: what was streamed is counted when the run ends; no token touches a family.
#[tokio::test]
async fn tokens_are_counted_once_a_run_and_not_one_by_one() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture.submit(&task(400)).await;
    let mut reader = fixture.open(&task, None).await;
    let mut seen = 0;
    while seen < 20 {
        let event = reader.next_event(LIMIT).await.unwrap().unwrap();
        seen += u32::from(event.name.as_deref() == Some("token"));
    }
    let meanwhile = fixture.call(Call::get("/metrics")).await.text();
    assert!(!meanwhile.contains("\ntokens_out_total{"), "{meanwhile}");
    reader.all_events(LIMIT).await.unwrap();
    fixture.wait_idle().await;
    let after = fixture.call(Call::get("/metrics")).await.text();
    let counted = after.lines().find(|line| line.starts_with("tokens_out_total{"));
    assert!(counted.unwrap().ends_with(" 400"), "{counted:?}");
}

/// ORCH-3460: each waiting task counts once, for the pool in whose line it stands.
#[tokio::test]
async fn waiting_tasks_are_shown_by_pool_and_class() {
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], "", &[]).await;
    let pin = |pool: &str| json!({"placement": {"mode": "pin", "pin_pool_id": pool}});
    for pool in ["a", "b"] {
        let long = fixture.submit(&task_with(2000, pin(pool))).await;
        fixture
            .wait_status(&long, "it to run", |status| status["state"] == "running")
            .await;
    }
    let batch = json!({"priority": "batch", "placement": {"mode": "pin", "pin_pool_id": "b"}});
    fixture.submit(&task_with(4, pin("a"))).await;
    fixture.submit(&task_with(4, pin("a"))).await;
    fixture.submit(&task_with(4, batch)).await;
    let text = fixture.call(Call::get("/metrics")).await.text();
    let depth = |pool: &str, class: &str, depth: u32| {
        let labels = format!("engine=\"llamacpp\",engine_version=\"b1-test\",pool_id=\"{pool}\"");
        format!("queue_depth{{{labels},priority=\"{class}\"}} {depth}\n")
    };
    for (pool, interactive, batch) in [("a", 2, 0), ("b", 0, 1)] {
        assert!(text.contains(&depth(pool, "interactive", interactive)), "{text}");
        assert!(text.contains(&depth(pool, "batch", batch)), "{text}");
    }
    let gone = fixture.call(Call::new("DELETE", "/v1/workers/box")).await;
    assert_eq!(gone.status, 204);
    let text = fixture.call(Call::get("/metrics")).await.text();
    assert!(!text.contains("queue_depth{engine=\"llamacpp\""), "{text}");
    assert!(
        text.contains("pool_id=\"unknown\",priority=\"batch\"} 1\n"),
        "{text}"
    );
}
