//! What a stream said, and how it ended.

use cucumber::{then, when};
use serde_json::Value;
use test_harness_bdd::Coverage;
use test_harness_support::stream_check::{Summary, Terminal};
use test_harness_support::wait::{Look, wait_for};

use super::engine::completions;
use crate::world::{PATIENCE, StepResult, World};

async fn summary(world: &mut World) -> anyhow::Result<Summary> {
    let (system, task) = world.system_and_task()?;
    task.watch_to_end(system).await
}

#[when("I wait for its first token")]
async fn first_token(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    Ok(task.viewer(system).await?.read_to_token().await?)
}

#[when("I read its stream to the end")]
async fn read_to_end(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    Ok(task.viewer(system).await?.read_to_end().await?)
}

#[then("its stream is well formed")]
async fn well_formed(world: &mut World) -> StepResult {
    // `summary` fails for a stream that breaks the grammar.
    let said = summary(world).await?;
    assert!(said.started.is_some(), "{said:?}");
    Ok(())
}

#[then(expr = "its stream starts with {string}")]
async fn starts_with(world: &mut World, words: String) -> StepResult {
    let text = summary(world).await?.text();
    assert!(text.starts_with(&words), "{text}");
    Ok(())
}

#[then(expr = "its stream holds {int} token(s)")]
async fn holds(world: &mut World, tokens: usize) -> StepResult {
    let said = summary(world).await?;
    assert_eq!(said.tokens.len(), tokens, "{said:?}");
    Ok(())
}

#[then(expr = "its stream ends with finish reason {string}")]
async fn finish_reason(world: &mut World, reason: String) -> StepResult {
    let said = summary(world).await?;
    assert_eq!(end(&said)["finish_reason"], reason, "{said:?}");
    told(world).await
}

#[then(expr = "its stream ends with finish reason {string} after {int} tokens")]
async fn finish_reason_after(world: &mut World, reason: String, tokens: usize) -> StepResult {
    let said = summary(world).await?;
    assert_eq!(end(&said)["finish_reason"], reason, "{said:?}");
    assert_eq!(end(&said)["tokens_out"], tokens, "{said:?}");
    assert_eq!(said.tokens.len(), tokens, "{said:?}");
    told(world).await
}

/// The log tells the end of the task too, if only after its reader has seen it.
async fn told(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let look = || async {
        let log = system.orchestrator.stderr();
        let mut coverage = Coverage::default();
        coverage.read(&log);
        if coverage.tells_the_end_of(&task.id) {
            Look::Ready(())
        } else {
            Look::NotYet(log)
        }
    };
    Ok(wait_for("the task's end to be told", PATIENCE, look).await?)
}

#[then(expr = "its stream ends with error {string} whose message holds {string}")]
async fn error(world: &mut World, code: String, words: String) -> StepResult {
    let said = summary(world).await?;
    let Terminal::Error(error) = &said.terminal else {
        return Err(anyhow::anyhow!("no error ends the stream: {said:?}").into());
    };
    let message = error["message"].as_str().unwrap_or_default();
    assert_eq!(error["code"], code, "{error}");
    assert!(message.contains(&words), "{error}");
    Ok(())
}

#[then(expr = "the end event names engine {string}, a seed and the pool that ran it")]
async fn receipt(world: &mut World, engine: String) -> StepResult {
    let said = summary(world).await?;
    let end = end(&said);
    assert_eq!(end["engine"], engine, "{end}");
    let started = said
        .started
        .as_ref()
        .map_or(&Value::Null, |started| &started["seed"]);
    assert!(started.is_u64() && end["seed"] == *started, "{said:?}");
    let pool = end["pool_id"].as_str().unwrap_or_default();
    let ran = completions(world.system()?, pool).await?;
    assert_eq!(ran.len(), 1, "{pool} ran {ran:?}");
    assert_eq!(ran[0].tokens_written as usize, said.tokens.len());
    Ok(())
}

/// The data of the stream's `end`; null when it ended with an error.
fn end(said: &Summary) -> &Value {
    match &said.terminal {
        Terminal::End(data) => data,
        Terminal::Error(_) => &Value::Null,
    }
}
