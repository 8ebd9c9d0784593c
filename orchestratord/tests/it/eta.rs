//! REQ-ETA-LIVE, REQ-ETA-ON-TIME, REQ-ETA-LOAD: estimates over real processes: absent until
//! measured, then in receipts, headers, status and `metrics` frames, from the progress of what runs.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::Script;
use test_harness_support::system::{MODEL, Plan, System};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::{Fixture, LIMIT, paced, task, task_with};

#[tokio::test]
async fn estimates_appear_once_measured_and_follow_the_progress() {
    let fixture = Fixture::start(&[("p", 1, paced())], "", &[]).await;
    let first = fixture.submit(&task(1000)).await;
    let running = fixture
        .wait_status(&first, "it to run", |status| status["state"] == "running")
        .await;
    assert_eq!(running.get("predicted_end_ms"), None, "{running}");
    let unknown = fixture.post(&task(4)).await;
    assert_eq!(unknown.header("x-queue-position"), Some("0"));
    assert_eq!(
        unknown.header("x-predicted-start-ms"),
        None,
        "nothing was measured"
    );
    let unknown: Value = unknown.json().unwrap();
    assert_eq!(unknown.get("predicted_start_ms"), None, "{unknown}");
    let cancel = Call::post(&format!("/v1/tasks/{first}/cancel"));
    assert_eq!(fixture.call(cancel).await.status, 204);
    fixture.read(unknown["task_id"].as_str().unwrap()).await;
    fixture.read(&fixture.submit(&task(40)).await).await;
    fixture.wait_idle().await;

    let long = fixture
        .submit(&task_with(
            1000,
            json!({"expected_tokens": 1000, "deadline_ms": 600_000}),
        ))
        .await;
    let early = fixture
        .wait_status(&long, "its estimate", |status| {
            status["predicted_end_ms"].is_u64()
        })
        .await;
    assert!(early["on_time_probability"].as_f64().unwrap() > 0.9, "{early}");
    let answer = fixture.post(&task_with(4, json!({"deadline_ms": 600_000}))).await;
    let receipt: Value = answer.json().unwrap();
    let told = receipt["predicted_start_ms"].as_u64().unwrap();
    assert_eq!(
        answer.header("x-predicted-start-ms"),
        Some(told.to_string().as_str())
    );
    let waiting = receipt["task_id"].as_str().unwrap();
    let mut stream = fixture.open(waiting, None).await;
    // However unevenly the engine is given time: near its end it is near its end.
    loop {
        let event = stream.next_event(LIMIT).await.unwrap().unwrap();
        if event.name.as_deref() != Some("metrics") {
            continue;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(
            data["phase"], "queued",
            "the start is told before it comes closer: {data}"
        );
        assert!(data["on_time_probability"].is_number(), "{data}");
        if data["predicted_start_ms"].as_u64().unwrap() < told / 2 {
            break;
        }
    }
    let cancel = Call::post(&format!("/v1/tasks/{long}/cancel"));
    assert_eq!(fixture.call(cancel).await.status, 204);
    fixture.read(waiting).await;
    let text = fixture.call(Call::get("/metrics")).await.text();
    let count = text
        .lines()
        .find(|line| line.starts_with("predicted_start_error_ms_count"));
    let count: f64 = count.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(count >= 4.0, "{text}");
}

/// A pool whose engine loads again is expected back when its loads say so.
#[tokio::test]
async fn a_loading_engine_gives_a_start_once_a_load_was_measured() {
    let mut plan = Plan::reference_box(1).scripts(&Script::default().loading_for(2000));
    plan.pools.truncate(1);
    let system = System::start(plan).await.unwrap();
    let pid = system.pool("gpu0").await.unwrap()["replicas"][0]["pid"]
        .as_i64()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let starting = |pools: &[Value]| pools[0]["replicas"][0]["started_ms_ago"].is_u64();
    system
        .wait_pools("the engine to load again", starting)
        .await
        .unwrap();
    let body = json!({"model_ref": MODEL, "prompt": "hi", "max_tokens": 2});
    let answer = system.call(Call::post_json("/v1/tasks", &body)).await.unwrap();
    let receipt: Value = answer.json().unwrap();
    let told = receipt["predicted_start_ms"].as_u64();
    assert!(told.is_some_and(|ms| ms <= 60_000), "{receipt}");
    let path = format!("/v1/tasks/{}", receipt["task_id"].as_str().unwrap());
    let look = || async {
        let status: Value = system.call(Call::get(&path)).await.unwrap().json().unwrap();
        if status["state"] == "completed" {
            Look::Ready(())
        } else {
            Look::NotYet(status)
        }
    };
    wait_for("the task to end", LIMIT, look).await.unwrap();
}
