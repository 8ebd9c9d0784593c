//! Both daemons, real engine processes: no orchestrator trouble stops a healthy engine (invariant 8).

use rustix::process::Signal;
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::Script;
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::StreamCheck;
use test_harness_support::system::{MODEL, Plan, System};

use crate::fixture::LIMIT;

fn processes(pools: &[Value]) -> Vec<(Value, Value)> {
    pools
        .iter()
        .map(|pool| {
            (
                pool["replicas"][0]["pid"].clone(),
                pool["replicas"][0]["generation"].clone(),
            )
        })
        .collect()
}

async fn survives(stop: Signal) {
    let mut system = System::start(Plan::reference_box(1)).await.unwrap();
    let before = processes(&system.pools().await.unwrap());
    system.orchestrator.signal(stop).unwrap();
    system.orchestrator.wait(LIMIT).await.unwrap();
    system.restart_orchestrator().await.unwrap();
    system.wait_ready().await.unwrap();
    assert_eq!(
        processes(&system.pools().await.unwrap()),
        before,
        "the same engine processes serve on"
    );
    let body = json!({"model_ref": MODEL, "prompt": "hello again", "max_tokens": 3});
    let answer = system.call(Call::post_json("/v1/tasks", &body)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
}

#[tokio::test]
async fn engines_survive_a_stopped_orchestrator() {
    survives(Signal::TERM).await;
}

#[tokio::test]
async fn engines_survive_a_killed_orchestrator() {
    survives(Signal::KILL).await;
}

#[tokio::test]
async fn a_stopped_node_takes_its_engines_along_and_says_goodbye() {
    let system = System::start(Plan::reference_box(1)).await.unwrap();
    let pids: Vec<u64> = processes(&system.pools().await.unwrap())
        .iter()
        .filter_map(|(pid, _)| pid.as_u64())
        .collect();
    assert_eq!(pids.len(), 2);
    system.node.signal(Signal::TERM).unwrap();
    assert!(system.node.wait(LIMIT).await.unwrap().success());
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}/exe")).exists(),
            "engine {pid} outlives its node"
        );
    }
    system
        .wait_pools("the pools to be gone or stale", |pools| {
            pools.iter().all(|p| p["health"]["ready"] == false)
        })
        .await
        .unwrap();
}

/// A stream and the engines behind it outlive the box's daemon; the next run takes them over, and the orchestrator goes
/// on with the same replicas.
#[tokio::test]
async fn a_killed_node_interrupts_no_stream() {
    let script = Script {
        token_delay_us: 10_000,
        infinite: true,
        ..Script::default()
    };
    let plan = Plan {
        keep_engines: true,
        ..Plan::reference_box(1).scripts(&script)
    };
    let mut system = System::start(plan).await.unwrap();
    let before = processes(&system.pools().await.unwrap());
    let body = json!({"model_ref": MODEL, "prompt": "a long story", "max_tokens": 300});
    let receipt: Value = system
        .call(Call::post_json("/v1/tasks", &body))
        .await
        .unwrap()
        .json()
        .unwrap();
    let path = format!("/v1/tasks/{}/stream", receipt["task_id"].as_str().unwrap());
    let request = system.authorized(Call::get(&path));
    let mut stream = SseReader::open(system.address(), &request).await.unwrap();
    let mut events = Vec::new();
    while events.len() < 20 {
        events.push(stream.next_event(LIMIT).await.unwrap().unwrap());
    }
    system.node.signal(Signal::KILL).unwrap();
    system.node.wait(LIMIT).await.unwrap();
    system.restart_node().await.unwrap();
    events.extend(stream.all_events(LIMIT).await.unwrap());
    let summary = StreamCheck::whole(&events).unwrap();
    assert_eq!((summary.tokens.len(), summary.outcome()), (300, Some("length")));
    system.wait_ready().await.unwrap();
    assert_eq!(processes(&system.pools().await.unwrap()), before);
    let answer = system.call(Call::post_json("/v1/tasks", &body)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
}
