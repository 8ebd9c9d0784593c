//! The engines' side: what the script makes them do, what they saw.

use cucumber::{given, then};
use serde_json::json;
use test_harness_support::scripted_engine::{End, Fault, FaultKind, RequestRecord};
use test_harness_support::system::System;
use test_harness_support::wait::{Look, wait_for};

use super::gpu_box::generation;
use crate::world::{PATIENCE, StepResult, World};

/// Where the product asks for completions.
const COMPLETION: &str = "/completion";

/// The completions that a pool's engine was asked for since its start, oldest first.
pub(super) async fn completions(system: &System, pool: &str) -> anyhow::Result<Vec<RequestRecord>> {
    let report = system.engine(pool).await?.report().await?;
    let requests = report.requests.into_iter();
    Ok(requests.filter(|request| request.target == COMPLETION).collect())
}

/// Tells the engine that runs now; the one that is started after it dies does not know of it.
#[given(expr = "the engine of {string} runs out of GPU memory after {int} tokens")]
async fn out_of_memory(world: &mut World, pool: String, tokens: u32) -> StepResult {
    let system = world.system()?;
    let before = generation(&system.pool(&pool).await?);
    let fault = Fault::at(tokens, FaultKind::Abort);
    let engine = system.engine(&pool).await?;
    engine.change_script(&json!({"fault": fault})).await?;
    world.generation = before;
    Ok(())
}

#[given(expr = "the engine of {string} falls silent after {int} token(s)")]
async fn fall_silent(world: &mut World, pool: String, tokens: u32) -> StepResult {
    let engine = world.system()?.engine(&pool).await?;
    let fault = Fault::at(tokens, FaultKind::Stall);
    Ok(engine.change_script(&json!({"fault": fault})).await?)
}

#[then(expr = "the engine of {string} saw the connection close")]
async fn saw_close(world: &mut World, pool: String) -> StepResult {
    let system = world.system()?;
    let look = || async {
        match completions(system, &pool).await {
            Ok(seen) if seen.iter().all(|request| request.end != End::Open) => Look::Ready(seen),
            other => Look::NotYet(other),
        }
    };
    let seen = wait_for("the engine to be done with its completions", PATIENCE, look).await?;
    let ends: Vec<&End> = seen.iter().map(|request| &request.end).collect();
    assert_eq!(ends, [&End::ClientGone]);
    Ok(())
}

#[then("the engines ran one completion")]
async fn ran_one(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    task.watch_to_end(system).await?;
    let mut ran = 0;
    for shown in system.pools().await? {
        let pool = shown["pool_id"].as_str().unwrap_or_default();
        ran += completions(system, pool).await?.len();
    }
    assert_eq!(ran, 1);
    Ok(())
}
