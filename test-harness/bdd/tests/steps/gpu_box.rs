//! The GPU box: two pools, how busy they are, how they come back.

use anyhow::anyhow;
use cucumber::{given, then, when};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::Script;
use test_harness_support::system::{Plan, PoolPlan, System};

use super::submit::{self, Placement};
use crate::world::{StepResult, World, wait_status};

/// Tokens of a task that is still running when its scenario ends: two minutes of them at
/// [`PACE_US`].
const LONG: u32 = 24_000;

/// From token to token when engines pace themselves, µs: fast enough that a token is always about to
/// come, slow enough that four processes have time for other things.
const PACE_US: u64 = 5_000;

/// Context per slot, tokens: room for a long task.
const CTX: u32 = 32_768;

/// No watchdog does for a scenario what the product should have done before.
const PATIENT: &str = "[orchestratord.engine]\ntoken_idle_timeout_ms = 3600000\n";

/// A pool whose engine never ends a text by itself, so that what a task asks for decides.
fn pool(id: &str, gpu: usize, slots: u32) -> PoolPlan {
    PoolPlan {
        ctx: CTX,
        ..PoolPlan::new(id, gpu, slots).script(Script::default().tokens(2 * LONG))
    }
}

/// A box with two pools; more tables of the configuration may follow.
pub(super) fn two_pools(first: &str, second: &str, slots: u32) -> Plan {
    let plan = Plan {
        pools: vec![pool(first, 0, slots), pool(second, 1, slots)],
        ..Plan::default()
    };
    plan.config(PATIENT)
}

#[given(expr = "a GPU box with pools {string} and {string} of {int} slot(s) each")]
async fn start_box(world: &mut World, first: String, second: String, slots: u32) -> StepResult {
    Ok(world.start(two_pools(&first, &second, slots)).await?)
}

#[given(
    expr = "a GPU box with pools {string} and {string} of {int} slot(s) each and {word} settings {string}"
)]
async fn start_with_settings(
    world: &mut World,
    first: String,
    second: String,
    slots: u32,
    of: String,
    settings: String,
) -> StepResult {
    let table = match of.as_str() {
        "queue" => "queue",
        "session" => "sessions",
        "artifact" => "artifacts",
        other => return Err(anyhow!("no table has {other} settings").into()),
    };
    let table = format!("[orchestratord.{table}]\n{}\n", settings.replace(", ", "\n"));
    start(world, [&first, &second], slots, &table).await
}

/// Starts a box with further tables in its configuration.
pub(super) async fn start(world: &mut World, ids: [&str; 2], slots: u32, config: &str) -> StepResult {
    let [first, second] = ids;
    Ok(world
        .start(two_pools(first, second, slots).config(config))
        .await?)
}

#[given("the engines pace their tokens")]
async fn pace(world: &mut World) -> StepResult {
    let system = world.system()?;
    for shown in system.pools().await? {
        let pool = shown["pool_id"].as_str().unwrap_or_default();
        let engine = system.engine(pool).await?;
        engine.change_script(&json!({"token_delay_us": PACE_US})).await?;
    }
    Ok(())
}

#[given(expr = "{string} is busy with a long task")]
async fn occupy(world: &mut World, pool: String) -> StepResult {
    occupy_pool(world, pool).await
}

#[given(expr = "{string} and {string} are busy with long tasks")]
async fn occupy_both(world: &mut World, first: String, second: String) -> StepResult {
    occupy_pool(world, first).await?;
    occupy_pool(world, second).await
}

async fn occupy_pool(world: &mut World, pool: String) -> StepResult {
    let body = submit::task("interactive", LONG, &Placement::Pin(pool.clone()));
    world.submit(&body).await?;
    let task = world.task()?.id.clone();
    let running = |status: &Value| status["state"] == "running" && status["pool_id"] == pool.as_str();
    wait_status(world.system()?, &task, "the long task to run", running).await?;
    world.tasks.clear();
    world.long_tasks.push(task);
    Ok(())
}

#[when("the long task is cancelled")]
async fn cancel_long_task(world: &mut World) -> StepResult {
    for task in &world.long_tasks {
        let call = Call::post(&format!("/v1/tasks/{task}/cancel"));
        let answer = world.system()?.call(call).await?;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    Ok(())
}

#[then(expr = "{string} has all slots free")]
async fn all_slots_free(world: &mut World, pool: String) -> StepResult {
    let free = |pool: &Value| pool["slots_total"] != 0 && pool["slots_free"] == pool["slots_total"];
    let shown = wait_pool(world.system()?, &pool, "to have all slots free", free).await?;
    assert_eq!(shown["slots_free"], shown["slots_total"], "{shown}");
    Ok(())
}

#[then(expr = "{string} has no slot free")]
async fn no_slot_free(world: &mut World, pool: String) -> StepResult {
    let shown = world.system()?.pool(&pool).await?;
    assert_eq!(
        (&shown["slots_free"], &shown["health"]["ready"]),
        (&json!(0), &json!(true)),
        "{shown}"
    );
    Ok(())
}

#[then(expr = "{string} is ready again with a new generation")]
async fn ready_again(world: &mut World, pool: String) -> StepResult {
    let before = world.generation;
    let anew = |pool: &Value| pool["health"]["ready"] == true && generation(pool) > before;
    let shown = wait_pool(world.system()?, &pool, "to be ready with a new generation", anew).await?;
    assert!(
        before.is_some() && generation(&shown) > before,
        "it was {before:?}, now {shown}"
    );
    Ok(())
}

/// Counts the starts of a pool's engine.
pub(super) fn generation(pool: &Value) -> Option<u64> {
    pool["replicas"][0]["generation"].as_u64()
}

/// Waits until the orchestrator shows a pool as wished; tells how it shows it.
pub(super) async fn wait_pool(
    system: &System,
    id: &str,
    what: &str,
    condition: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let holds = |pools: &[Value]| pools.iter().any(|pool| pool["pool_id"] == id && condition(pool));
    let pools = system.wait_pools(&format!("{id} {what}"), holds).await?;
    let shown = pools.into_iter().find(|pool| pool["pool_id"] == id);
    Ok(shown.unwrap_or_default())
}
