//! Pools that change their model.

use cucumber::{given, then, when};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::{Script, StartFailure};
use test_harness_support::system::{Plan, PoolPlan};

use super::gpu_box::wait_pool;
use super::submit::{self, Placement};
use crate::world::{StepResult, World};

/// Fast enough to wait for, slow enough that a reload begins while a task runs.
fn paced() -> Script {
    Script {
        token_delay_us: 4_000,
        infinite: true,
        ..Script::default()
    }
}

#[given(expr = "a GPU box with a pool {string} that has the files of {string} and {string}")]
async fn start(world: &mut World, pool: String, _first: String, second: String) -> StepResult {
    let pool = PoolPlan::new(&pool, 0, 2).script(paced()).more_model(&second);
    let plan = Plan {
        pools: vec![pool],
        ..Plan::default()
    };
    Ok(world.start(plan).await?)
}

#[given(expr = "new engines of {string} end with {string}")]
fn refuse(world: &mut World, pool: String, message: String) -> StepResult {
    let script = Script {
        start_failure: Some(StartFailure {
            exit_code: 1,
            message,
        }),
        ..paced()
    };
    Ok(world.system()?.rescript(&pool, &script)?)
}

#[when(expr = "{string} is reloaded with {string}")]
async fn reload(world: &mut World, pool: String, model: String) -> StepResult {
    let system = world.system()?;
    let body = json!({"new_model_ref": system.model_ref(&model), "deadline_ms": 60_000});
    let call = Call::post_json(&format!("/v1/pools/{pool}/reload"), &body);
    let answer = system.call(call).await?;
    assert_eq!(answer.status, 202, "{}", answer.text());
    Ok(())
}

#[then(expr = "the reload of {string} has succeeded")]
async fn succeeded(world: &mut World, pool: String) -> StepResult {
    let last = over(world, &pool).await?;
    assert_eq!(last["state"], "succeeded", "{last}");
    Ok(())
}

#[then(expr = "the reload of {string} has failed with the words {string}")]
async fn failed(world: &mut World, pool: String, words: String) -> StepResult {
    let last = over(world, &pool).await?;
    assert_eq!(last["state"], "failed", "{last}");
    let reason = last["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(&words), "{last}");
    Ok(())
}

/// How the pool's latest operation ended.
async fn over(world: &World, pool: &str) -> anyhow::Result<Value> {
    let over = |shown: &Value| {
        let last = &shown["health"]["last_operation"];
        last.is_object() && last["state"] != "running"
    };
    let shown = wait_pool(world.system()?, pool, "to have done it", over).await?;
    Ok(shown["health"]["last_operation"].clone())
}

#[then(expr = "{string} serves {string}")]
async fn serves(world: &mut World, pool: String, model: String) -> StepResult {
    let serves = |shown: &Value| shown["health"]["ready"] == true && shown["model_id"] == model.as_str();
    let shown = wait_pool(world.system()?, &pool, "to serve the model", serves).await?;
    assert_eq!(shown["health"]["draining"], false, "{shown}");
    Ok(())
}

#[when(expr = "I submit a task of {int} tokens for {string}")]
async fn submit_for(world: &mut World, tokens: u32, model: String) -> StepResult {
    let mut body = submit::task("interactive", tokens, &Placement::Anywhere);
    body["model_ref"] = json!(model);
    Ok(world.submit(&body).await?)
}
