//! Pools whose engines do not come up, or come up where they must not.

use cucumber::{given, then};
use serde_json::{Value, json};
use test_harness_support::fake_nvml::reference_driver;
use test_harness_support::http1::{Call, call};
use test_harness_support::scripted_engine::{Residency, Script, StartFailure};
use test_harness_support::system::{Plan, PoolPlan, System};
use test_harness_support::wait::{Look, wait_for};

use super::gpu_box::{generation, wait_pool};
use crate::world::{PATIENCE, StepResult, World};

/// Long enough to be seen, short enough to be waited for.
const RESTART: &str = "restart = { initial_ms = 400, max_ms = 500, budget = 3, window_ms = 600000 }\n";

/// The second pool is sound; the first one's engine follows this script. Waits until the second serves.
async fn start(world: &mut World, pools: [&str; 2], of: &str, script: Script) -> StepResult {
    let [first, second] = pools;
    assert_eq!(of, first, "the scenario is about its first pool");
    let sound = PoolPlan::new(second, 1, 1).script(Script::default().tokens(100));
    let plan = Plan {
        pools: vec![PoolPlan::new(first, 0, 1).script(script).extra(RESTART), sound],
        ..Plan::default()
    };
    world.start_unready(plan).await?;
    let ready = |pool: &Value| pool["health"]["ready"] == true;
    wait_pool(world.system()?, second, "to be ready", ready).await?;
    Ok(())
}

#[given(
    expr = "a GPU box with pools {string} and {string}, where the engine of {string} ends at every start with {string}"
)]
async fn ends_at_start(
    world: &mut World,
    first: String,
    second: String,
    of: String,
    message: String,
) -> StepResult {
    let script = Script {
        start_failure: Some(StartFailure {
            exit_code: 1,
            message,
        }),
        ..Script::default()
    };
    start(world, [&first, &second], &of, script).await
}

#[given(
    expr = "a GPU box with pools {string} and {string}, where the engine of {string} computes on the GPU of {string}"
)]
async fn astray(world: &mut World, first: String, second: String, of: String, on: String) -> StepResult {
    assert_eq!(on, second, "the scenario has no other pool");
    let foreign = reference_driver().gpus[1].uuid.clone();
    let script = Script {
        residency: Residency::On(vec![foreign]),
        ..Script::default()
    };
    start(world, [&first, &second], &of, script).await
}

#[then(expr = "{string} pauses before its next start because of {string}")]
async fn pauses(world: &mut World, pool: String, cause: String) -> StepResult {
    let pauses = |shown: &Value| {
        shown["replicas"][0]["state"] == "backoff" && shown["health"]["cause"] == cause.as_str()
    };
    let shown = wait_pool(world.system()?, &pool, "to pause", pauses).await?;
    let health = &shown["health"];
    assert_eq!(health["ready"], false, "{shown}");
    assert!(
        health["hint"].as_str().is_some_and(|hint| !hint.is_empty()),
        "{shown}"
    );
    Ok(())
}

#[then(expr = "{string} is given up because of {string} with the words {string}")]
async fn given_up(world: &mut World, pool: String, cause: String, words: String) -> StepResult {
    let failed = |shown: &Value| shown["replicas"][0]["state"] == "failed";
    let shown = wait_pool(world.system()?, &pool, "to be given up", failed).await?;
    let health = &shown["health"];
    assert_eq!(
        (&health["cause"], &health["ready"]),
        (&json!(cause), &json!(false)),
        "{shown}"
    );
    let said = health["last_error"].as_str().unwrap_or_default();
    assert!(said.contains(&words), "{shown}");
    Ok(())
}

#[then(expr = "{string} was started {int} times")]
async fn started(world: &mut World, pool: String, times: u64) -> StepResult {
    let shown = world.system()?.pool(&pool).await?;
    assert_eq!(generation(&shown), Some(times), "{shown}");
    Ok(())
}

/// As the node shows it: whose the programs on each GPU are. A sample of the driver may still list one that has just ended.
#[then("no GPU holds the engine of another pool")]
async fn no_spill(world: &mut World) -> StepResult {
    let system = world.system()?;
    let look = || async {
        match held(system).await {
            Ok(held) if held.iter().all(|(_, pool)| !pool.is_empty()) => Look::Ready(held),
            other => Look::NotYet(other),
        }
    };
    let held = wait_for("the GPUs to hold nothing but engines", PATIENCE, look).await?;
    for (gpu, pool) in &held {
        let shown = system.pool(pool).await?;
        assert_eq!(shown["device_mask"], json!([gpu]), "{held:?}");
    }
    assert_eq!(held.len(), 1, "the sound pool's engine alone: {held:?}");
    Ok(())
}

/// Each program on a GPU: where, and of which pool.
async fn held(system: &System) -> anyhow::Result<Vec<(String, String)>> {
    let node: Value = call(system.node.address(), &Call::get("/v1/node"))
        .await?
        .json()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let gpus = node["gpus"].as_array().into_iter().flatten();
    let each = gpus.flat_map(|gpu| {
        let processes = gpu["processes"].as_array().into_iter().flatten();
        processes.map(move |process| (text(&gpu["uuid"]), text(&process["pool_id"])))
    });
    Ok(each.collect())
}
