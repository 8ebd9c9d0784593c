//! Drain, reload, load, unload and logs through the API, over both daemons and real engine processes.

use std::time::Duration;

use serde_json::{Value, json};
use test_harness_support::http1::{Answer, Call};
use test_harness_support::scripted_engine::{Script, StartFailure};
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::{StreamCheck, Summary};
use test_harness_support::system::{MODEL, Plan, PoolPlan, System};

use crate::fixture::{Fixture, LIMIT, fast};

/// A box with one pool that can serve two models.
fn one_pool(script: Script) -> Plan {
    Plan {
        pools: vec![PoolPlan::new("gpu0", 0, 2).script(script).more_model("other")],
        ..Plan::default()
    }
    .config("[orchestratord.nodes]\nheartbeat_interval_ms = 100\nstale_after_ms = 2000\n")
}

fn slow() -> Script {
    Script {
        token_delay_us: 5_000,
        infinite: true,
        ..Script::default()
    }
}

async fn post(system: &System, path: &str, body: &Value) -> Answer {
    system.call(Call::post_json(path, body)).await.unwrap()
}

/// Begins an operation that must be accepted; gives its id.
async fn operate(system: &System, what: &str, body: &Value) -> Value {
    let answer = post(system, &format!("/v1/pools/gpu0/{what}"), body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let accepted: Value = answer.json().unwrap();
    assert_eq!(accepted["health_url"], "/v1/pools/gpu0/health");
    accepted["operation_id"].clone()
}

/// The pool once that operation is over.
async fn over(system: &System, operation: &Value) -> Value {
    let pools = system
        .wait_pools("the operation to be over", |pools| {
            let last = &pools[0]["health"]["last_operation"];
            last["operation_id"] == *operation && last["state"] != "running"
        })
        .await
        .unwrap();
    pools[0].clone()
}

fn outcome(pool: &Value) -> &str {
    pool["health"]["last_operation"]["state"].as_str().unwrap()
}

async fn submit(system: &System, model: &str, tokens: u32) -> String {
    let body = json!({"model_ref": model, "prompt": "the moon", "max_tokens": tokens});
    let answer = post(system, "/v1/tasks", &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json::<Value>().unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn read(system: &System, task: &str) -> Summary {
    let request = Call::get(&format!("/v1/tasks/{task}/stream"));
    let mut stream = SseReader::open(system.address(), &request).await.unwrap();
    StreamCheck::whole(&stream.all_events(LIMIT).await.unwrap()).unwrap()
}

/// The stream of a task that has begun.
async fn running(system: &System, task: &str) -> SseReader {
    let request = Call::get(&format!("/v1/tasks/{task}/stream"));
    let mut stream = SseReader::open(system.address(), &request).await.unwrap();
    loop {
        let event = stream.next_event(LIMIT).await.unwrap().unwrap();
        if event.name.as_deref() == Some("token") {
            return stream;
        }
    }
}

/// REQ-OPERATION-DRAIN.
#[tokio::test]
async fn a_drain_lets_running_tasks_finish_and_admits_no_others() {
    let system = System::start(one_pool(slow())).await.unwrap();
    let task = submit(&system, MODEL, 200).await;
    let mut stream = running(&system, &task).await;
    let operation = operate(&system, "drain", &json!({"deadline_ms": 60_000})).await;
    let body = json!({"model_ref": MODEL, "prompt": "x", "max_tokens": 1});
    let refused = post(&system, "/v1/tasks", &body).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(system.pool("gpu0").await.unwrap()["health"]["cause"], "DRAINING");
    let events = stream.all_events(LIMIT).await.unwrap();
    assert_eq!(events.last().unwrap().name.as_deref(), Some("end"), "it finishes");
    let pool = over(&system, &operation).await;
    assert_eq!(outcome(&pool), "succeeded");
    assert_eq!(pool["replicas"][0]["pid"], Value::Null);

    let operation = operate(&system, "load", &json!({})).await;
    assert_eq!(outcome(&over(&system, &operation).await), "succeeded");
    let task = submit(&system, MODEL, 3).await;
    assert_eq!(read(&system, &task).await.outcome(), Some("length"));
}

/// REQ-OPERATION-RELOAD: the fake GPU has room for both models.
#[tokio::test]
async fn a_reload_under_load_loses_nothing() {
    let system = System::start(one_pool(slow())).await.unwrap();
    let tasks = [
        submit(&system, MODEL, 150).await,
        submit(&system, MODEL, 150).await,
    ];
    let mut streams = Vec::new();
    for task in &tasks {
        streams.push(running(&system, task).await);
    }
    // The new engines take their time, so that there is an operation to run into.
    let loading = Script {
        load_ms: 1500,
        ..slow()
    };
    system.rescript("gpu0", &loading).unwrap();
    let body = json!({"new_model_ref": "other"});
    let operation = operate(&system, "reload", &body).await;
    let again = operate(&system, "reload", &body).await;
    assert_eq!(operation, again, "the same operation is joined");
    let conflict = post(&system, "/v1/pools/gpu0/drain", &json!({})).await;
    assert_eq!(conflict.status, 409, "{}", conflict.text());
    let pool = over(&system, &operation).await;
    assert_eq!(
        (outcome(&pool), &pool["model_id"]),
        ("succeeded", &json!("other"))
    );
    for stream in &mut streams {
        let events = stream.all_events(LIMIT).await.unwrap();
        assert_eq!(events.last().unwrap().name.as_deref(), Some("end"));
    }
    let task = submit(&system, "other", 3).await;
    let summary = read(&system, &task).await;
    assert_eq!(summary.outcome(), Some("length"));
}

/// REQ-OPERATION-RELOAD: whatever the gate.
#[tokio::test]
async fn a_reload_that_fails_leaves_the_old_model_serving() {
    let system = System::start(one_pool(Script::default())).await.unwrap();
    let before = system.pool("gpu0").await.unwrap()["replicas"][0]["pid"].clone();
    let absent = json!({"new_model_ref": system.model_ref("absent")});
    let outside = json!({"new_model_ref": "file:/etc/hostname", "model_id": "host"});
    let broken = Script {
        start_failure: Some(StartFailure {
            exit_code: 1,
            message: "the model is not for this engine".to_owned(),
        }),
        ..Script::default()
    };
    let names = system.model_ref("other");
    let fails_to_load = json!({"new_model_ref": names});
    for body in [absent, outside, fails_to_load] {
        system.rescript("gpu0", &broken).unwrap();
        let operation = operate(&system, "reload", &body).await;
        let pool = over(&system, &operation).await;
        assert_eq!(outcome(&pool), "failed", "{body}: {pool}");
        assert!(pool["health"]["last_operation"]["reason"].is_string(), "{pool}");
        assert_eq!(
            (&pool["replicas"][0]["pid"], &pool["health"]["ready"]),
            (&before, &json!(true))
        );
    }
}

#[tokio::test]
async fn an_operation_on_a_silent_node_is_refused_and_forgotten() {
    let system = System::start(one_pool(Script::default())).await.unwrap();
    system
        .node
        .signal(test_harness_support::daemon::Signal::STOP)
        .unwrap();
    let refused = post(&system, "/v1/pools/gpu0/drain", &json!({})).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json::<Value>().unwrap()["code"], "POOL_UNREADY");
    system
        .node
        .signal(test_harness_support::daemon::Signal::CONT)
        .unwrap();
    system.wait_ready().await.unwrap();
}

/// REQ-OPERATION-LEVEL: an operation lives on the node: an orchestrator that restarts learns of it, and counts on from it.
#[tokio::test]
async fn a_drain_outlives_the_orchestrator() {
    let mut system = System::start(one_pool(Script::default())).await.unwrap();
    let operation = operate(&system, "drain", &json!({})).await;
    over(&system, &operation).await;
    system
        .orchestrator
        .signal(test_harness_support::daemon::Signal::KILL)
        .unwrap();
    system.orchestrator.wait(LIMIT).await.unwrap();
    system.restart_orchestrator().await.unwrap();
    let pools = system
        .wait_pools("the pool to be known", |pools| !pools.is_empty())
        .await
        .unwrap();
    assert_eq!(pools[0]["health"]["draining"], true);
    assert_eq!(pools[0]["health"]["last_operation"]["operation_id"], operation);
    let operation = operate(&system, "load", &json!({})).await;
    assert_eq!(outcome(&over(&system, &operation).await), "succeeded");
}

#[tokio::test]
async fn an_engines_log_is_shown_and_followed() {
    let system = System::start(one_pool(Script::default())).await.unwrap();
    let shown = system
        .call(Call::get("/v1/pools/gpu0/logs?tail=50"))
        .await
        .unwrap();
    let log: Value = shown.json().unwrap();
    assert!(shown.text().contains("load_model"), "{log}");
    assert_eq!(
        (&log["replica_id"], &log["generation"]),
        (&json!("r0"), &json!(1))
    );
    let unknown = system
        .call(Call::get("/v1/pools/gpu0/logs?replica_id=r9"))
        .await
        .unwrap();
    assert_eq!(unknown.status, 404, "{}", unknown.text());

    // The text ends with the process.
    let following = Call::get("/v1/pools/gpu0/logs?follow=true&tail=5");
    let following = system.call(following);
    let now = json!({"deadline_ms": 0});
    let draining = operate(&system, "drain", &now);
    let (followed, _) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(following, draining)
    })
    .await
    .unwrap();
    let followed = followed.unwrap();
    assert_eq!(followed.status, 200);
    assert!(
        followed.text().contains("cleaning up before exit"),
        "{}",
        followed.text()
    );
}

/// REQ-OPERATION-LEVEL: nothing is promised that the node does not have.
#[tokio::test]
async fn an_operation_is_accepted_once_the_node_has_recorded_it() {
    let config = "[orchestratord.nodes]\nstale_after_ms = 500\nheartbeat_interval_ms = 100\n";
    let fixture = Fixture::start(&[("p", 1, fast())], config, &[]).await;
    let order = || fixture.call(Call::post_json("/v1/pools/p/unload", &json!({})));
    let silent = order().await;
    assert_eq!(silent.status, 503, "{}", silent.text());
    fixture.register().await;
    let accepted = fixture.obeyed(order()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
}
