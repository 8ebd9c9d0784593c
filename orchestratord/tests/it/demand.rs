//! Models on demand, over both daemons and real engine processes.

use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::{Script, StartFailure};
use test_harness_support::sse::SseReader;
use test_harness_support::stream_check::{StreamCheck, Summary};
use test_harness_support::system::{MODEL, Plan, PoolPlan, System};
use test_harness_support::wait::{Look, wait_for};

use crate::fixture::LIMIT;

const SWIFT: &str = "[orchestratord.nodes]\nheartbeat_interval_ms = 100\nstale_after_ms = 3000\n\
                     [orchestratord.queue]\nswap_after_ms = 300\n";

fn plan(pools: Vec<PoolPlan>) -> Plan {
    Plan {
        pools,
        ..Plan::default()
    }
    .config(SWIFT)
}

fn pool() -> PoolPlan {
    PoolPlan::new("gpu0", 0, 1).more_model("other")
}

async fn submit(system: &System, model: &str, tokens: u32) -> String {
    let body = json!({"model_ref": model, "prompt": "the moon", "max_tokens": tokens});
    let answer = system.call(Call::post_json("/v1/tasks", &body)).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json::<Value>().unwrap()["task_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn read(system: &System, task: &str) -> (Summary, Vec<Value>) {
    let request = Call::get(&format!("/v1/tasks/{task}/stream"));
    let mut stream = SseReader::open(system.address(), &request).await.unwrap();
    let events = stream.all_events(LIMIT).await.unwrap();
    let metrics = events
        .iter()
        .filter(|event| event.name.as_deref() == Some("metrics"));
    let metrics = metrics
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect();
    (StreamCheck::whole(&events).unwrap(), metrics)
}

/// Bytes that nobody uses on the first GPU, as the orchestrator knows.
async fn free(system: &System) -> u64 {
    let shown = system.call(Call::get("/v1/nodes")).await.unwrap();
    let shown: Value = shown.json().unwrap();
    shown["nodes"][0]["gpus"][0]["memory_free_bytes"]
        .as_u64()
        .unwrap()
}

async fn model_of(system: &System, pool: &str) -> Value {
    system.pool(pool).await.unwrap()["model_id"].clone()
}

/// REQ-MODEL-DEMAND.
#[tokio::test]
async fn the_first_task_has_its_model_loaded_and_is_told_how_far_that_is() {
    let script = Script {
        load_ms: 1500,
        ..Script::default()
    };
    let pools = vec![pool().script(script).extra("load_on = \"demand\"\n")];
    let system = System::start_unready(plan(pools)).await.unwrap();
    system
        .wait_pools("the pool to be known", |pools| !pools.is_empty())
        .await
        .unwrap();
    let capabilities = system.call(Call::get("/v1/capabilities")).await.unwrap();
    let capabilities: Value = capabilities.json().unwrap();
    let offered = &capabilities["pools"][0]["loadable_models"];
    assert_eq!(*offered, json!([MODEL, "other"]));

    let task = submit(&system, "other", 3).await;
    let (summary, metrics) = read(&system, &task).await;
    assert_eq!(summary.outcome(), Some("length"));
    let loading: Vec<&Value> = metrics.iter().filter(|it| it["phase"] == "loading").collect();
    assert!(!loading.is_empty(), "{metrics:?}");
    assert!(
        loading
            .iter()
            .any(|it| it["pool_id"] == "gpu0" && it["load_bytes"].as_u64() > Some(0)),
        "{loading:?}"
    );
    assert_eq!(model_of(&system, "gpu0").await, "other");
}

#[tokio::test]
async fn an_idle_pool_swaps_at_once_and_loses_no_task() {
    let system = System::start(plan(vec![pool()])).await.unwrap();
    let first = submit(&system, MODEL, 3).await;
    read(&system, &first).await;
    let second = submit(&system, "other", 3).await;
    assert_eq!(read(&system, &second).await.0.outcome(), Some("length"));
    assert_eq!(model_of(&system, "gpu0").await, "other");
    let unknown = json!({"model_ref": "nonesuch", "prompt": "x"});
    let refused = system.call(Call::post_json("/v1/tasks", &unknown)).await.unwrap();
    assert_eq!(refused.status, 404, "{}", refused.text());
}

/// REQ-MODEL-SWAP-BOUND: two models that are asked for all the time take turns.
#[tokio::test]
async fn a_model_in_use_has_to_go_for_one_that_has_waited_long_enough() {
    let slow = Script {
        token_delay_us: 5_000,
        infinite: true,
        ..Script::default()
    };
    let system = System::start(plan(vec![pool().script(slow)])).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(submit(&system, MODEL, 60).await);
    }
    tasks.push(submit(&system, "other", 60).await);
    for task in &tasks {
        assert_eq!(read(&system, task).await.0.outcome(), Some("length"));
    }
}

/// REQ-MODEL-IDLE.
#[tokio::test]
async fn an_idle_pool_is_unloaded_and_comes_back() {
    let pools = vec![pool().extra("idle_unload_ms = 300\n")];
    let system = System::start(plan(pools)).await.unwrap();
    let unloaded = |pools: &[Value]| {
        pools[0]["health"]["cause"] == "STOPPED" && pools[0]["replicas"][0]["pid"].is_null()
    };
    system
        .wait_pools("the pool to be unloaded", unloaded)
        .await
        .unwrap();
    let task = submit(&system, MODEL, 3).await;
    assert_eq!(read(&system, &task).await.0.outcome(), Some("length"));
    system
        .wait_pools("the pool to be unloaded again", unloaded)
        .await
        .unwrap();
}

/// REQ-MODEL-EVICTION: the idle neighbour makes room, the pinned one stays.
#[tokio::test]
async fn an_idle_neighbour_makes_room_and_a_pinned_one_stays() {
    let neighbour = PoolPlan::new("near", 0, 1);
    let pinned = PoolPlan::new("pinned", 0, 1).extra("pinned = true\n");
    let late = PoolPlan::new("late", 0, 1)
        .more_model("other")
        .extra("load_on = \"demand\"\n");
    let mut system = System::start_unready(plan(vec![neighbour, pinned, late]))
        .await
        .unwrap();
    let two_ready = |pools: &[Value]| {
        let ready = |id: &str| {
            pools
                .iter()
                .any(|pool| pool["pool_id"] == id && pool["health"]["ready"] == true)
        };
        ready("near") && ready("pinned")
    };
    system
        .wait_pools("the first two to be ready", two_ready)
        .await
        .unwrap();
    // Both have worked, so neither is just chosen.
    for id in ["near", "pinned"] {
        let body = json!({
            "model_ref": MODEL, "prompt": "x", "max_tokens": 1, "placement": {"mode": "pin", "pin_pool_id": id},
        });
        let answer = system.call(Call::post_json("/v1/tasks", &body)).await.unwrap();
        let receipt: Value = answer.json().unwrap();
        read(&system, receipt["task_id"].as_str().unwrap()).await;
    }
    // Others take the GPU but for less than a model needs, and the orchestrator has heard of it.
    let free = free(&system).await;
    system
        .gpus
        .update(|driver| driver.gpus[0].memory.used_by_others += free - (1 << 20))
        .unwrap();
    let full = || async {
        match self::free(&system).await {
            left if left <= 1 << 20 => Look::Ready(()),
            left => Look::NotYet(left),
        }
    };
    wait_for("the GPU to be full", LIMIT, full).await.unwrap();
    let task = submit(&system, "other", 2).await;
    assert_eq!(read(&system, &task).await.0.outcome(), Some("length"));
    let pools = system.pools().await.unwrap();
    let of = |id: &str| pools.iter().find(|pool| pool["pool_id"] == id).unwrap().clone();
    assert_eq!(of("near")["health"]["cause"], "STOPPED");
    assert_eq!(of("pinned")["health"]["ready"], true);
    assert_eq!(of("late")["model_id"], "other");
}

/// REQ-MODEL-DEMAND, REQ-FAULT-RESTART-STORM: the task is told, and no task after it starts the engine again.
#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_told_and_not_tried_for_ever() {
    let broken = Script {
        start_failure: Some(StartFailure {
            exit_code: 1,
            message: "error loading model: no such tensor".to_owned(),
        }),
        ..Script::default()
    };
    let pool = PoolPlan::new("gpu0", 0, 1)
        .script(broken)
        .extra("load_on = \"demand\"\nrestart = { initial_ms = 10, max_ms = 20, budget = 1 }\n");
    let plan = plan(vec![pool]).config("stranded_max_wait_ms = 1000\n");
    let system = System::start_unready(plan).await.unwrap();
    system
        .wait_pools("the pool to wait for a task", |pools| {
            pools
                .first()
                .is_some_and(|pool| pool["health"]["cause"] == "STOPPED")
        })
        .await
        .unwrap();
    let task = submit(&system, MODEL, 3).await;
    let (stream, _) = read(&system, &task).await;
    assert_eq!(stream.outcome(), Some("POOL_UNREADY"), "{stream:?}");
    let pool = system.pool("gpu0").await.unwrap();
    let hint = pool["health"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("no such tensor"), "{pool}");
    assert_eq!(
        pool["replicas"][0]["generation"], 1,
        "an engine that refuses a file does not heal"
    );
    let body = json!({"model_ref": MODEL, "prompt": "x", "max_tokens": 1});
    let refused = system.call(Call::post_json("/v1/tasks", &body)).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text());
    let pool = system.pool("gpu0").await.unwrap();
    assert_eq!(pool["replicas"][0]["generation"], 1, "{pool}");
}
