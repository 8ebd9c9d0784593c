//! Cancelling, and going away.

use cucumber::{then, when};
use serde_json::Value;
use test_harness_support::http1::{Answer, Call};
use test_harness_support::stream_check::Terminal;
use test_harness_support::system::System;

use crate::world::{StepResult, Viewer, World, is_token};

/// An id that no task has.
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

async fn cancel_call(system: &System, task: &str) -> anyhow::Result<Answer> {
    Ok(system
        .call(Call::post(&format!("/v1/tasks/{task}/cancel")))
        .await?)
}

/// Cancels while the viewer, if there is one, goes on reading.
#[when("I cancel it")]
async fn cancel(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let cancelling = cancel_call(system, &task.id);
    let answer = match &mut task.viewer {
        None => cancelling.await?,
        Some(viewer) => {
            let (answer, seen) = viewer.read_to_end_while(cancelling).await?;
            task.seen_at_acknowledgement = Some(seen);
            answer?
        }
    };
    world.answer = Some(answer);
    Ok(())
}

#[when("I drop the stream")]
fn drop_stream(world: &mut World) -> StepResult {
    let (_, task) = world.system_and_task()?;
    let viewer = task.viewer.take();
    assert!(viewer.is_some(), "nobody watches the stream");
    Ok(())
}

#[then(expr = "the cancel answers {int}")]
fn answers(world: &mut World, status: u16) -> StepResult {
    let answer = world.answer()?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then("no token follows the acknowledgement")]
async fn no_token_follows(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let seen = task.seen_at_acknowledgement;
    let events = task.viewer(system).await?.events();
    let after = events.get(seen.unwrap_or(usize::MAX)..);
    let after = after.ok_or_else(|| anyhow::anyhow!("the viewer saw no acknowledgement"))?;
    assert!(
        !after.iter().any(is_token),
        "after the acknowledgement came {after:?}"
    );
    assert!(
        events.iter().any(is_token),
        "there was no token at all: {events:?}"
    );
    Ok(())
}

#[then("a viewer who comes after the acknowledgement is given no token")]
async fn late_viewer(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let mut late = Viewer::open(system, &task.id).await?;
    late.read_to_end().await?;
    let said = late.summary()?;
    assert!(said.tokens.is_empty(), "{said:?}");
    assert!(matches!(said.terminal, Terminal::End(_)), "{said:?}");
    assert_eq!(said.outcome(), Some("canceled"), "{said:?}");
    Ok(())
}

#[then(expr = "cancelling it again answers {int}")]
async fn cancel_again(world: &mut World, status: u16) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let answer = cancel_call(system, &task.id).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then(expr = "cancelling an unknown task answers {int}")]
async fn cancel_unknown(world: &mut World, status: u16) -> StepResult {
    let answer = cancel_call(world.system()?, UNKNOWN).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    Ok(())
}

#[then(expr = "the task becomes {string}")]
async fn becomes(world: &mut World, state: String) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let is_there = |status: &Value| status["state"] == state.as_str();
    let status = task
        .wait_status(system, &format!("the task to be {state}"), is_there)
        .await?;
    assert_eq!(status["state"], state, "{status}");
    Ok(())
}
