//! Coming back to a stream with `Last-Event-ID`.

use cucumber::then;
use serde_json::Value;
use test_harness_support::http1::Answer;

use crate::world::{StepResult, Viewer, World, resumption};

#[then("resuming after every frame gives exactly the rest")]
async fn every_frame(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let whole = task.viewer(system).await?.events().to_vec();
    let (terminal, before) = whole.split_last().unzip();
    let mut resumed = 0;
    for (at, event) in before.into_iter().flatten().enumerate() {
        let Some(id) = &event.id else { continue };
        let mut viewer = Viewer::resume(system, &task.id, id).await?;
        viewer.read_to_end().await?;
        assert_eq!(viewer.events(), &whole[at + 1..], "after {id}");
        resumed += 1;
    }
    assert!(
        terminal.is_some() && resumed > 1,
        "only {resumed} frames before the end: {whole:?}"
    );
    Ok(())
}

#[then(expr = "resuming after the last frame answers {int}")]
async fn last_frame(world: &mut World, status: u16) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let last = task.watch_to_end(system).await?.last_id;
    let answer = resume(world, &last).await?;
    assert_eq!(
        (answer.status, answer.body.len()),
        (status, 0),
        "after {last}: {}",
        answer.text()
    );
    Ok(())
}

#[then(expr = "resuming after {string} answers {int} naming {string}")]
async fn wrong_frame(world: &mut World, after: String, status: u16, name: String) -> StepResult {
    let answer = resume(world, &after).await?;
    assert_eq!(answer.status, status, "{}", answer.text());
    let body: Value = answer.json()?;
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|message| message.contains(&name)),
        "{body}"
    );
    Ok(())
}

async fn resume(world: &World, after: &str) -> anyhow::Result<Answer> {
    let (system, task) = (world.system()?, world.task()?);
    Ok(system.call(resumption(&task.id, after)).await?)
}
