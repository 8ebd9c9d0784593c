//! REQ-QUEUE-STRANDED, ORCH-3254: waiting tasks whose pools go away, drain, or get company.

use serde_json::{Value, json};
use test_harness_support::http1::Call;

use crate::fixture::{Fixture, fast, paced, pool_report, task, task_with};

const IMPATIENT: &str = "[orchestratord.queue]\nstranded_max_wait_ms = 300\n";

async fn goodbye(fixture: &Fixture) {
    let gone = fixture.call(Call::new("DELETE", "/v1/workers/box")).await;
    assert_eq!(gone.status, 204);
}

async fn report(fixture: &Fixture, report: &Value) {
    let answer = fixture
        .call(Call::post_json("/v1/workers/box/heartbeat", report))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn running(fixture: &Fixture, body: &Value) -> String {
    let task = fixture.submit(body).await;
    fixture
        .wait_status(&task, "it to run", |status| status["state"] == "running")
        .await;
    task
}

async fn cancel(fixture: &Fixture, task: &str) {
    let call = Call::post(&format!("/v1/tasks/{task}/cancel"));
    assert_eq!(fixture.call(call).await.status, 204);
}

#[tokio::test]
async fn a_task_whose_pools_are_gone_for_too_long_ends_with_an_error() {
    let fixture = Fixture::start(&[("p", 1, paced())], IMPATIENT, &[]).await;
    running(&fixture, &task(2000)).await;
    let waiting = fixture.submit(&task(4)).await;
    goodbye(&fixture).await;
    let stream = fixture.read(&waiting).await;
    assert_eq!(stream.outcome(), Some("POOL_UNREADY"), "{stream:?}");
    let status = fixture.status(&waiting).await;
    assert_eq!(status["state"], "failed");
    let message = status["error"]["message"].as_str().unwrap();
    assert!(message.contains("none came back within 300 ms"), "{message}");
}

#[tokio::test]
async fn a_draining_pool_s_waiting_tasks_end_when_no_other_comes() {
    let fixture = Fixture::start(&[("p", 1, paced())], IMPATIENT, &[]).await;
    let long = running(&fixture, &task(1000)).await;
    let waiting = fixture.submit(&task(4)).await;
    let mut draining = fixture.report();
    draining["pools"][0]["draining"] = json!(true);
    report(&fixture, &draining).await;
    assert_eq!(fixture.read(&waiting).await.outcome(), Some("POOL_UNREADY"));
    assert_eq!(
        fixture.status(&long).await["state"],
        "running",
        "what runs goes on"
    );
}

#[tokio::test]
async fn a_task_waits_while_its_pool_may_come_back() {
    let fixture = Fixture::one(1, paced()).await;
    let long = running(&fixture, &task(2000)).await;
    let waiting = fixture.submit(&task(4)).await;
    goodbye(&fixture).await;
    cancel(&fixture, &long).await;
    let decision = fixture.get(&format!("/v1/tasks/{waiting}/decision")).await;
    assert_eq!(
        (&decision["stage"], &decision["outcome"]),
        (&json!("waiting"), &json!("refused"))
    );
    assert_eq!(fixture.status(&waiting).await["state"], "queued");
    fixture.register().await;
    assert_eq!(fixture.read(&waiting).await.outcome(), Some("length"));
}

#[tokio::test]
async fn waiting_tasks_move_when_their_pool_drains_and_start_where_a_slot_frees() {
    let fixture = Fixture::start(&[("a", 1, paced()), ("b", 1, paced())], "", &[]).await;
    let prefer = |pool: &str| json!({"placement": {"mode": "prefer", "prefer_pools": [pool]}});
    running(&fixture, &task_with(2000, prefer("a"))).await;
    let on_b = running(&fixture, &task_with(2000, prefer("b"))).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(fixture.submit(&task_with(4, prefer("a"))).await);
    }
    let mut draining = fixture.report();
    draining["pools"][0]["draining"] = json!(true);
    report(&fixture, &draining).await;
    cancel(&fixture, &on_b).await;
    for task in &waiting {
        assert_eq!(fixture.read(task).await.outcome(), Some("length"));
        assert_eq!(fixture.status(task).await["pool_id"], "b");
    }
}

#[tokio::test]
async fn a_pool_that_joins_takes_what_waits_for_others() {
    let fixture = Fixture::start(&[("a", 1, paced())], "", &[]).await;
    let spare = Fixture::one(1, fast()).await;
    running(&fixture, &task(2000)).await;
    let waiting = fixture.submit(&task(4)).await;
    assert_eq!(fixture.status(&waiting).await["state"], "queued");
    let mut with_spare = fixture.report();
    let endpoint = spare.pools[0].engine.base_url();
    let pools = with_spare["pools"].as_array_mut().unwrap();
    pools.push(pool_report("c", &endpoint, 1));
    report(&fixture, &with_spare).await;
    assert_eq!(fixture.read(&waiting).await.outcome(), Some("length"));
    assert_eq!(fixture.status(&waiting).await["pool_id"], "c");
}
