//! Submitting tasks, good ones and others.

use cucumber::{then, when};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::system::MODEL;

use crate::world::{StepResult, World};

pub(super) const PROMPT: &str = "Tell a story about a lamp.";

/// The id of the task that is submitted twice. Every scenario has an orchestrator of its own.
const TASK_ID: &str = "6f1f64c8-5d0c-4f3a-9c1e-0d8f2b7a4e11";

/// Where a task wants to run.
pub(super) enum Placement {
    Anywhere,
    Pin(String),
    Prefer(String),
    PreferOrWait(String),
    Avoid(String),
    AvoidOrWait(String),
    ExactlyOn(String),
}

impl Placement {
    fn json(&self) -> Option<Value> {
        match self {
            Self::Anywhere => None,
            Self::Pin(pool) => Some(json!({"mode": "pin", "pin_pool_id": pool})),
            Self::Prefer(pool) => Some(json!({"mode": "prefer", "prefer_pools": [pool]})),
            Self::PreferOrWait(pool) => {
                Some(json!({"mode": "prefer", "prefer_pools": [pool], "allow_fallback": false}))
            }
            Self::Avoid(pool) => Some(json!({"avoid_pools": [pool]})),
            Self::AvoidOrWait(pool) => Some(json!({"avoid_pools": [pool], "allow_fallback": false})),
            Self::ExactlyOn(gpus) => Some(json!({"require_device_mask": gpus})),
        }
    }
}

/// The body of a request.
pub(super) fn task(priority: &str, tokens: u32, placement: &Placement) -> Value {
    let mut body = json!({"model_ref": MODEL, "prompt": PROMPT, "max_tokens": tokens, "priority": priority});
    if let Some(placement) = placement.json() {
        body["placement"] = placement;
    }
    body
}

fn changed(key: &str, value: Value) -> Value {
    let mut body = task("interactive", 8, &Placement::Anywhere);
    body[key] = value;
    body
}

#[when(expr = "I submit a(n) {word} task of {int} tokens")]
async fn submit(world: &mut World, priority: String, tokens: u32) -> StepResult {
    Ok(world
        .submit(&task(&priority, tokens, &Placement::Anywhere))
        .await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens pinned to {string}")]
async fn submit_pinned(world: &mut World, priority: String, tokens: u32, pool: String) -> StepResult {
    Ok(world
        .submit(&task(&priority, tokens, &Placement::Pin(pool)))
        .await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens preferring {string}")]
async fn submit_preferring(world: &mut World, priority: String, tokens: u32, pool: String) -> StepResult {
    Ok(world
        .submit(&task(&priority, tokens, &Placement::Prefer(pool)))
        .await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens preferring {string} without fallback")]
async fn submit_or_wait(world: &mut World, priority: String, tokens: u32, pool: String) -> StepResult {
    let body = task(&priority, tokens, &Placement::PreferOrWait(pool));
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens avoiding {string}")]
async fn submit_avoiding(world: &mut World, priority: String, tokens: u32, pool: String) -> StepResult {
    Ok(world
        .submit(&task(&priority, tokens, &Placement::Avoid(pool)))
        .await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens avoiding {string} without fallback")]
async fn submit_or_avoid(world: &mut World, priority: String, tokens: u32, pool: String) -> StepResult {
    let body = task(&priority, tokens, &Placement::AvoidOrWait(pool));
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens for exactly the GPU of {string}")]
async fn submit_masked(world: &mut World, priority: String, tokens: u32, pool: String) -> StepResult {
    let gpu = gpu_of(world, &pool).await?;
    let body = task(&priority, tokens, &Placement::ExactlyOn(gpu));
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit a(n) {word} task of {int} tokens for exactly the GPUs of {string} and {string}")]
async fn submit_masked_both(
    world: &mut World,
    priority: String,
    tokens: u32,
    first: String,
    second: String,
) -> StepResult {
    let gpus = [gpu_of(world, &first).await?, gpu_of(world, &second).await?];
    let body = task(&priority, tokens, &Placement::ExactlyOn(gpus.join(",")));
    Ok(world.submit(&body).await?)
}

async fn gpu_of(world: &World, pool: &str) -> anyhow::Result<String> {
    let shown = world.system()?.pool(pool).await?;
    let gpu = shown["device_mask"][0].as_str();
    Ok(gpu.unwrap_or_default().to_owned())
}

#[when(expr = "I submit a task with the field {string}")]
async fn submit_field(world: &mut World, field: String) -> StepResult {
    Ok(world.submit(&changed(&field, json!("red"))).await?)
}

#[when("I submit a task with an empty prompt")]
async fn submit_empty(world: &mut World) -> StepResult {
    Ok(world.submit(&changed("prompt", json!(""))).await?)
}

#[when(expr = "I submit a task for the model {string}")]
async fn submit_model(world: &mut World, model: String) -> StepResult {
    Ok(world.submit(&changed("model_ref", json!(model))).await?)
}

#[when(expr = "I submit a task that needs {int} tokens")]
async fn submit_needing(world: &mut World, tokens: u32) -> StepResult {
    Ok(world.submit(&changed("max_tokens", json!(tokens))).await?)
}

#[when(expr = "I submit a body of {int} MiB")]
async fn submit_body(world: &mut World, mebibytes: usize) -> StepResult {
    let prompt = "x".repeat(mebibytes << 20);
    Ok(world.submit(&changed("prompt", json!(prompt))).await?)
}

#[when("I submit the same task twice with one task id")]
async fn submit_twice(world: &mut World) -> StepResult {
    let body = changed("task_id", json!(TASK_ID));
    world.submit(&body).await?;
    Ok(world.submit(&body).await?)
}

#[then("both receipts name the same task")]
fn same_receipts(world: &mut World) -> StepResult {
    let receipts: Vec<&Value> = world.tasks.iter().map(|task| &task.receipt).collect();
    assert_eq!(
        receipts.len(),
        2,
        "{receipts:?}; the last answer: {:?}",
        world.answer
    );
    assert_eq!(receipts[0]["task_id"], TASK_ID);
    assert_eq!(receipts[0], receipts[1]);
    Ok(())
}

#[then(expr = "submitting another body under that id answers {int} with code {string}")]
async fn conflict(world: &mut World, status: u16, code: String) -> StepResult {
    let mut body = changed("task_id", json!(TASK_ID));
    body["max_tokens"] = json!(9);
    let answer = world.system()?.call(Call::post_json("/v1/tasks", &body)).await?;
    let told: Value = answer.json()?;
    assert_eq!(
        (answer.status, told["code"].as_str()),
        (status, Some(code.as_str())),
        "{told}"
    );
    Ok(())
}

#[then(expr = "the receipt says {int} task(s) ahead and names a pool")]
async fn receipt(world: &mut World, ahead: u32) -> StepResult {
    let receipt = &world.task()?.receipt;
    assert_eq!(receipt["queue_position"], ahead, "{receipt}");
    let pools = world.system()?.pools().await?;
    assert!(
        pools.iter().any(|pool| pool["pool_id"] == receipt["pool_id"]),
        "{receipt}"
    );
    Ok(())
}
