//! ORCH-3204, ORCH-3205: cancel is a contract; a client that is gone cancels.

use serde_json::json;
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::End;
use test_harness_support::stream_check::Terminal;
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, fast, paced, task};

async fn cancel(fixture: &Fixture, task: &str) -> u16 {
    fixture
        .call(Call::post(&format!("/v1/tasks/{task}/cancel")))
        .await
        .status
}

async fn wait_engine_saw_the_close(fixture: &Fixture) {
    let look = || async {
        let report = fixture.pools[0].engine.report();
        let gone = report
            .requests
            .iter()
            .any(|request| request.end == End::ClientGone);
        if gone && report.active == 0 {
            Look::Ready(())
        } else {
            Look::NotYet(report.active)
        }
    };
    wait_for("the engine to see the connection close", LIMIT, look)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_running_task() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture.submit(&task(1000)).await;
    let mut reader = fixture.open(&task, None).await;
    while reader.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
    assert_eq!(cancel(&fixture, &task).await, 204);
    let at_cancel = fixture.status(&task).await["usage"]["tokens_out"]
        .as_u64()
        .unwrap();
    let rest = reader.all_events(LIMIT).await.unwrap();
    let last = rest.last().unwrap();
    let end: serde_json::Value = serde_json::from_str(&last.data).unwrap();
    assert_eq!(
        (last.name.as_deref(), &end["finish_reason"]),
        (Some("end"), &json!("canceled"))
    );
    assert!(end["tokens_out"].as_u64().unwrap() <= at_cancel + 1);
    wait_engine_saw_the_close(&fixture).await;
    fixture.wait_idle().await;
    assert_eq!(cancel(&fixture, &task).await, 204, "idempotent");
    let again = fixture.open(&task, None).await.all_events(LIMIT).await.unwrap();
    assert!(
        again.iter().all(|event| event.name.as_deref() != Some("token")),
        "no token after the acknowledgement"
    );
}

#[tokio::test]
async fn a_queued_task() {
    let fixture = Fixture::one(1, paced()).await;
    let running = fixture.submit(&task(1000)).await;
    let queued = fixture.submit(&task(8)).await;
    assert_eq!(fixture.status(&queued).await["state"], "queued");
    assert_eq!(cancel(&fixture, &queued).await, 204);
    let stream = fixture.read(&queued).await;
    assert_eq!((stream.outcome(), stream.tokens.len()), (Some("canceled"), 0));
    assert_eq!(fixture.status(&running).await["state"], "running");
}

#[tokio::test]
async fn a_finished_task_stays_what_it_is() {
    let fixture = Fixture::one(1, fast()).await;
    let task = fixture.submit(&task(4)).await;
    fixture.read(&task).await;
    assert_eq!(cancel(&fixture, &task).await, 204);
    assert_eq!(fixture.status(&task).await["state"], "completed");
}

#[tokio::test]
async fn a_client_that_is_gone() {
    let fixture = Fixture::one(1, paced()).await;
    let task = fixture.submit(&task(1000)).await;
    let mut reader = fixture.open(&task, None).await;
    while reader.next_event(LIMIT).await.unwrap().unwrap().name.as_deref() != Some("token") {}
    drop(reader);
    fixture
        .wait_status(&task, "the task to be cancelled", |status| {
            status["state"] == "canceled"
        })
        .await;
    wait_engine_saw_the_close(&fixture).await;
    fixture.wait_idle().await;
}

#[tokio::test]
async fn a_client_that_comes_back_within_the_grace() {
    let config = "[orchestratord]\ndisconnect_grace_ms = 60000\n";
    let fixture = Fixture::start(&[("p", 1, paced())], config, &[]).await;
    let task = fixture.submit(&task(100)).await;
    let mut reader = fixture.open(&task, None).await;
    let mut last_id = String::new();
    while last_id.is_empty() || last_id == "0.0" {
        last_id = reader
            .next_event(LIMIT)
            .await
            .unwrap()
            .unwrap()
            .id
            .unwrap_or(last_id);
    }
    drop(reader);
    let rest = fixture
        .open(&task, Some(&last_id))
        .await
        .all_events(LIMIT)
        .await
        .unwrap();
    assert_eq!(rest.last().unwrap().name.as_deref(), Some("end"));
    assert_eq!(fixture.status(&task).await["finish_reason"], "length");
}

/// The acknowledgement against the last token, many times: exactly one terminal frame, and what it
/// says is what the record says.
#[tokio::test]
async fn cancel_races_with_the_end() {
    let fixture = Fixture::one(4, fast()).await;
    for round in 0..60 {
        let task = fixture.submit(&task(1 + round % 8)).await;
        let (status, stream) = tokio::join!(cancel(&fixture, &task), fixture.read(&task));
        assert_eq!(status, 204);
        let Terminal::End(end) = &stream.terminal else {
            panic!("{:?}", stream.terminal)
        };
        let recorded = fixture.status(&task).await;
        assert_eq!(recorded["finish_reason"], end["finish_reason"], "{recorded}");
    }
    fixture.wait_idle().await;
}
