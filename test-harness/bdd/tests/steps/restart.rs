//! An orchestrator that is killed and comes back.

use anyhow::Context as _;
use cucumber::{then, when};
use serde_json::Value;
use test_harness_support::stream_check::StreamCheck;

use crate::world::{StepResult, Viewer, World};

#[when("the orchestrator is killed and started again")]
async fn killed(world: &mut World) -> StepResult {
    let before = world.orchestrator()?.pid();
    world.crash_orchestrator().await?;
    assert_ne!(world.orchestrator()?.pid(), before, "it is the same process");
    Ok(())
}

#[then(expr = "resuming where it was cut gives {int} tokens in all")]
async fn resumed(world: &mut World, tokens: usize) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let cut = task.viewer.take().context("nobody watched the stream")?;
    let before = cut.events().to_vec();
    let last = before.iter().rev().find_map(|event| event.id.clone());
    let last = last.context("nothing came before the cut")?;
    let mut rest = Viewer::resume(system, &task.id, &last).await?;
    rest.read_to_end().await?;
    let mut check = StreamCheck::new();
    before
        .iter()
        .chain(rest.events())
        .try_for_each(|event| check.event(event))?;
    assert_eq!(check.finish()?.tokens.len(), tokens);
    Ok(())
}

#[then("the task submitted last waits ahead of the one before")]
async fn order(world: &mut World) -> StepResult {
    let system = world.system()?;
    let mut positions = Vec::new();
    for task in &world.tasks {
        let status = task.status(system).await?;
        positions.push(
            status["queue_position"]
                .as_u64()
                .with_context(|| status.to_string())?,
        );
    }
    assert!(
        positions.is_sorted_by(|before, last| before > last),
        "{positions:?}"
    );
    Ok(())
}

#[then("every submitted task completes")]
async fn complete(world: &mut World) -> StepResult {
    let system = world.system()?;
    let mut states = Vec::new();
    for task in &world.tasks {
        let ended = |status: &Value| status["finish_reason"].is_string();
        let status = task.wait_status(system, "the task to end", ended).await?;
        states.push(status["state"].clone());
    }
    assert_eq!(states, vec!["completed"; world.tasks.len()]);
    Ok(())
}
