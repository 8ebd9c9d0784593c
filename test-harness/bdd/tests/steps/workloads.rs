//! Chats, embeddings and rankings: their requests, and what comes of them.

use cucumber::{given, then, when};
use serde_json::{Value, json};
use test_harness_support::scripted_engine::Script;
use test_harness_support::stream_check::{Summary, Terminal};
use test_harness_support::system::{MODEL, Plan, PoolPlan};

use crate::world::{StepResult, World, is_token};

/// A pool that serves these workloads, whose engine never ends a text by itself.
fn pool(id: &str, gpu: usize, workloads: &str) -> PoolPlan {
    PoolPlan {
        extra: format!("workloads = {workloads}"),
        ..PoolPlan::new(id, gpu, 1).script(Script::default().tokens(2000))
    }
}

#[given("a GPU box with pools for text, vectors and scores")]
async fn start_box(world: &mut World) -> StepResult {
    let pools = vec![
        pool("text", 0, r#"["completion", "chat"]"#),
        pool("vectors", 1, r#"["embedding"]"#),
        pool("scores", 1, r#"["rerank"]"#),
    ];
    let plan = Plan {
        pools,
        ..Plan::default()
    };
    Ok(world.start(plan).await?)
}

#[given(expr = "the engine of {string} thinks for {int} tokens")]
async fn think(world: &mut World, pool: String, tokens: u32) -> StepResult {
    let engine = world.system()?.engine(&pool).await?;
    engine.change_script(&json!({"reasoning": tokens})).await?;
    Ok(())
}

fn messages(content: &str) -> Value {
    json!([{"role": "user", "content": content}])
}

/// The least request of a workload, with `text` as its input.
fn request(workload: &str, text: &str) -> Value {
    let mut body = json!({"model_ref": MODEL, "workload": workload});
    match workload {
        "completion" => body["prompt"] = json!(text),
        "chat" => body["messages"] = messages(text),
        "embedding" => body["inputs"] = json!([text]),
        _ => {
            body["inputs"] = json!([text]);
            body["query"] = json!("why");
        }
    }
    body
}

#[when(expr = "I submit a chat saying {string} of {int} tokens")]
async fn submit_chat(world: &mut World, content: String, tokens: u32) -> StepResult {
    let mut body = request("chat", &content);
    body["max_tokens"] = json!(tokens);
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit an embedding of {string} and {string}")]
async fn submit_embedding(world: &mut World, first: String, second: String) -> StepResult {
    let mut body = request("embedding", &first);
    body["inputs"] = json!([first, second]);
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit a ranking of {string} and {string} against {string}")]
async fn submit_ranking(world: &mut World, first: String, second: String, query: String) -> StepResult {
    let mut body = request("rerank", &first);
    body["inputs"] = json!([first, second]);
    body["query"] = json!(query);
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit an embedding pinned to {string}")]
async fn submit_pinned(world: &mut World, pool: String) -> StepResult {
    let mut body = request("embedding", "the moon");
    body["placement"] = json!({"mode": "pin", "pin_pool_id": pool});
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit a(n) {word} with {int} bytes of text")]
async fn submit_long(world: &mut World, workload: String, bytes: usize) -> StepResult {
    Ok(world.submit(&request(&workload, &"x".repeat(bytes))).await?)
}

#[when(expr = "I submit a(n) {word} with the field {string} besides its own")]
async fn submit_with(world: &mut World, workload: String, field: String) -> StepResult {
    let mut body = request(&workload, "the moon");
    body[&field] = match field.as_str() {
        "messages" => messages("hi"),
        "inputs" => json!(["a"]),
        "max_tokens" => json!(4),
        _ => json!("text"),
    };
    Ok(world.submit(&body).await?)
}

#[when(expr = "I submit a(n) {word} without its {string}")]
async fn submit_without(world: &mut World, workload: String, field: String) -> StepResult {
    let mut body = request(&workload, "the moon");
    if let Some(fields) = body.as_object_mut() {
        fields.remove(&field);
    }
    Ok(world.submit(&body).await?)
}

async fn summary(world: &mut World) -> anyhow::Result<Summary> {
    let (system, task) = world.system_and_task()?;
    task.watch_to_end(system).await
}

/// The data of the stream's `end`.
async fn end(world: &mut World) -> anyhow::Result<Value> {
    match summary(world).await?.terminal {
        Terminal::End(end) => Ok(end),
        Terminal::Error(error) => Err(anyhow::anyhow!("the stream ends with {error}")),
    }
}

#[then(expr = "the pool {string} ran it")]
async fn ran_on(world: &mut World, pool: String) -> StepResult {
    let end = end(world).await?;
    assert_eq!(end["pool_id"], pool.as_str(), "{end}");
    Ok(())
}

#[then(expr = "{int} tokens of its stream are {string} and {int} are text")]
async fn kinds(world: &mut World, told_apart: usize, kind: String, text: usize) -> StepResult {
    let (system, task) = world.system_and_task()?;
    task.watch_to_end(system).await?;
    let events = task.viewer(system).await?.events();
    let kinds: Vec<Option<String>> = events
        .iter()
        .filter(|event| is_token(event))
        .map(|event| {
            let token: Value = serde_json::from_str(&event.data).unwrap_or_default();
            token["kind"].as_str().map(str::to_owned)
        })
        .collect();
    let count = |wanted: Option<&str>| kinds.iter().filter(|kind| kind.as_deref() == wanted).count();
    assert_eq!((count(Some(&kind)), count(None)), (told_apart, text), "{kinds:?}");
    Ok(())
}

#[then(expr = "its result holds {int} vectors of equal length")]
async fn vectors(world: &mut World, count: usize) -> StepResult {
    let end = end(world).await?;
    let result = &end["result"];
    let vectors = result["embeddings"].as_array().cloned().unwrap_or_default();
    let lengths: Vec<Option<u64>> = vectors
        .iter()
        .map(|vector| {
            vector
                .as_array()
                .and_then(|numbers| u64::try_from(numbers.len()).ok())
        })
        .collect();
    assert_eq!(
        (&result["type"], vectors.len()),
        (&json!("embedding"), count),
        "{end}"
    );
    let dimensions = result["dimensions"].as_u64();
    assert!(
        dimensions > Some(0) && lengths.iter().all(|length| *length == dimensions),
        "{end}"
    );
    assert_eq!(end["tokens_out"], 0, "{end}");
    Ok(())
}

#[then(expr = "its result ranks {int} before {int}")]
async fn ranks(world: &mut World, first: u64, second: u64) -> StepResult {
    let end = end(world).await?;
    let scores = end["result"]["scores"].as_array().cloned().unwrap_or_default();
    let order: Vec<u64> = scores
        .iter()
        .filter_map(|score| score["index"].as_u64())
        .collect();
    assert_eq!(
        (&end["result"]["type"], order),
        (&json!("rerank"), vec![first, second]),
        "{end}"
    );
    Ok(())
}

#[then("both tasks have the same result")]
async fn same_result(world: &mut World) -> StepResult {
    let second = end(world).await?;
    let last = world.tasks.pop();
    let first = end(world).await?;
    world.tasks.extend(last);
    assert!(first["result"].is_object(), "{first}");
    assert_eq!(first["result"], second["result"]);
    Ok(())
}
