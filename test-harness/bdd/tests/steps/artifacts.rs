//! What clients store, and the traces of tasks.

use anyhow::{Context as _, ensure};
use cucumber::{then, when};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::stream_check::Terminal;
use test_harness_support::system::System;
use test_harness_support::wait::{Look, wait_for};

use super::submit::PROMPT;
use crate::world::{PATIENCE, StepResult, World};

#[when(expr = "I store a {string} saying {string} with the tag {string}")]
async fn store(world: &mut World, kind: String, content: String, tag: String) -> StepResult {
    let body = json!({"kind": kind, "content": content, "tags": [tag]});
    let answer = world
        .system()?
        .call(Call::post_json("/v1/artifacts", &body))
        .await?;
    world.answer = Some(answer);
    Ok(())
}

async fn get(system: &System, path: &str) -> anyhow::Result<Value> {
    let answer = system.call(Call::get(path)).await?;
    ensure!(
        answer.status == 200,
        "{path}: {}: {}",
        answer.status,
        answer.text()
    );
    Ok(answer.json()?)
}

/// What the orchestrator has under a tag: each artifact with its content.
async fn tagged(system: &System, tag: &str) -> anyhow::Result<Vec<Value>> {
    let list = get(system, &format!("/v1/artifacts?tag={tag}")).await?;
    let mut found = Vec::new();
    for info in list["artifacts"].as_array().context("a list")? {
        let id = info["id"].as_str().context("an id")?;
        found.push(get(system, &format!("/v1/artifacts/{id}")).await?);
    }
    Ok(found)
}

#[then("it is stored under the digest of its content")]
fn stored(world: &mut World) -> StepResult {
    let answer = world.answer()?;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let info: Value = answer.json()?;
    // Of "first the tests".
    let digest = "sha256:0529f437915deaee3899fa19a8b5a3d86278124f95b8ab24ac00e8ad92cb1c93";
    assert_eq!(info["id"], digest, "{info}");
    Ok(())
}

#[then("it was there already")]
fn repeated(world: &mut World) -> StepResult {
    let answer = world.answer()?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Ok(())
}

#[then(expr = "the tag {string} finds {string}")]
async fn finds(world: &mut World, tag: String, content: String) -> StepResult {
    let found = tagged(world.system()?, &tag).await?;
    let contents: Vec<&Value> = found.iter().map(|artifact| &artifact["content"]).collect();
    assert_eq!(contents, [&json!(content)]);
    Ok(())
}

#[then(expr = "the tag {string} finds nothing after a while")]
async fn finds_nothing(world: &mut World, tag: String) -> StepResult {
    let system = world.system()?;
    let path = format!("/v1/artifacts?tag={tag}");
    let look = || async {
        match get(system, &path).await {
            Ok(list) if list["artifacts"] == json!([]) => Look::Ready(list),
            other => Look::NotYet(other),
        }
    };
    let list = wait_for("the artifact to be removed", PATIENCE, look).await?;
    assert_eq!(list.get("next_cursor"), None);
    Ok(())
}

#[then(expr = "asking for it again with its ETag answers {int}")]
async fn known(world: &mut World, status: u16) -> StepResult {
    let info: Value = world.answer()?.json()?;
    let path = format!("/v1/artifacts/{}", info["id"].as_str().context("an id")?);
    let system = world.system()?;
    let first = system.call(Call::get(&path)).await?;
    let tag = first.header("etag").context("no ETag")?;
    let again = system.call(Call::get(&path).header("If-None-Match", tag)).await?;
    assert_eq!((again.status, again.body.len()), (status, 0));
    Ok(())
}

/// The one trace of the task submitted last.
async fn trace(world: &mut World) -> anyhow::Result<Value> {
    let (system, task) = world.system_and_task()?;
    let mut found = tagged(system, &format!("task:{}", task.id)).await?;
    ensure!(found.len() == 1, "it has not one trace: {found:#?}");
    Ok(found.remove(0))
}

#[then(expr = "its trace has the outcome {string}")]
async fn has_outcome(world: &mut World, outcome: String) -> StepResult {
    let trace = trace(world).await?;
    let tags = trace["tags"].as_array().context("tags")?;
    assert!(tags.contains(&json!(format!("outcome:{outcome}"))), "{trace:#}");
    Ok(())
}

#[then("its end names a trace that holds its text and not its prompt")]
async fn named(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let said = task.watch_to_end(system).await?;
    let Terminal::End(end) = &said.terminal else {
        return Err(anyhow::anyhow!("it failed: {said:?}").into());
    };
    let trace = trace(world).await?;
    assert_eq!(end["transcript"]["artifact_id"], trace["id"], "{end}");
    let content = trace["content"].as_str().context("its content")?;
    let document: Value = serde_json::from_str(content).context("it is no JSON")?;
    assert_eq!(document["output"]["parts"], json!([{"text": said.text()}]));
    assert!(!content.contains(PROMPT), "{content}");
    Ok(())
}
