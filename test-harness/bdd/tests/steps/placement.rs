//! Where tasks wait and run.

use anyhow::Context as _;
use cucumber::then;
use serde_json::Value;
use test_harness_support::stream_check::Terminal;

use super::engine::completions;
use crate::world::{StepResult, Task, World};

#[then(expr = "the task is {string} with {int} task(s) ahead")]
async fn state_and_position(world: &mut World, state: String, ahead: u32) -> StepResult {
    let status = world.task()?.status(world.system()?).await?;
    assert_eq!(status["state"], state, "{status}");
    assert_eq!(status["queue_position"], ahead, "{status}");
    Ok(())
}

#[then(expr = "the task runs on {string}")]
async fn runs_on(world: &mut World, pool: String) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let said = task.watch_to_end(system).await?;
    let Terminal::End(end) = &said.terminal else {
        return Err(anyhow::anyhow!("it failed: {said:?}").into());
    };
    assert_eq!(
        (&end["pool_id"], &end["finish_reason"]),
        (&pool.clone().into(), &"length".into()),
        "{end}"
    );
    let ran = completions(system, &pool).await?;
    let tokens: Vec<u32> = ran.iter().map(|request| request.tokens_written).collect();
    let own = u32::try_from(said.tokens.len())?;
    assert!(
        tokens.contains(&own),
        "the engine of {pool} wrote {tokens:?} tokens, not {own}"
    );
    Ok(())
}

#[then(expr = "a task pinned to {string} then ends with finish reason {string}")]
async fn another_task_ends(world: &mut World, pool: String, reason: String) -> StepResult {
    let body = super::submit::task("interactive", 4, &super::submit::Placement::Pin(pool.clone()));
    world.submit(&body).await?;
    let (system, task) = world.system_and_task()?;
    let said = task.watch_to_end(system).await?;
    assert_eq!(said.outcome(), Some(reason.as_str()), "{said:?}");
    Ok(())
}

#[then(expr = "the interactive task has {int} task(s) ahead and the batch task {int}")]
async fn order(world: &mut World, interactive: u32, batch: u32) -> StepResult {
    let ahead = [
        position(world, "interactive").await?,
        position(world, "batch").await?,
    ];
    assert_eq!(ahead, [interactive, batch].map(Value::from));
    Ok(())
}

/// How many tasks are ahead of the task of this class now.
async fn position(world: &World, priority: &str) -> anyhow::Result<Value> {
    let mut tasks = world.tasks.iter();
    let task: Option<&Task> = tasks.find(|task| task.priority == priority);
    let task = task.with_context(|| format!("there is no {priority} task"))?;
    let mut status = task.status(world.system()?).await?;
    Ok(status["queue_position"].take())
}
