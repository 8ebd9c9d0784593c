//! Bounds, classes and estimates of the queue; what is told about waiting.

use anyhow::Context as _;
use cucumber::{then, when};
use futures_util::future::join_all;
use serde_json::Value;
use test_harness_support::http1::{Answer, Call};

use super::submit::{self, Placement};
use crate::world::{PATIENCE, StepResult, Task, Viewer, World, wait_status};

#[when(expr = "I submit {int} interactive tasks of {int} tokens at once")]
async fn submit_many(world: &mut World, count: usize, tokens: u32) -> StepResult {
    let body = submit::task("interactive", tokens, &Placement::Anywhere);
    let system = world.system()?;
    let calls = (0..count).map(|_| system.call(Call::post_json("/v1/tasks", &body)));
    let answers: Vec<Answer> = join_all(calls).await.into_iter().collect::<Result<_, _>>()?;
    let taken = answers.iter().filter(|answer| answer.status == 202);
    let tasks: Vec<Task> = taken
        .map(|answer| Task::new(&body, answer.json()?))
        .collect::<anyhow::Result<_>>()?;
    world.tasks = tasks;
    world.answers = answers;
    Ok(())
}

#[when(expr = "it has waited for {int} ms")]
async fn has_waited(world: &mut World, ms: u64) -> StepResult {
    let waited = |status: &Value| status["timings"]["queue_time_ms"].as_u64() >= Some(ms);
    let (system, task) = world.system_and_task()?;
    let status = task
        .wait_status(system, "the task to have waited", waited)
        .await?;
    assert_eq!(status["state"], "queued", "{status}");
    Ok(())
}

#[when(expr = "{string} is made busy with a task that expects {int} tokens")]
async fn make_busy(world: &mut World, pool: String, tokens: u32) -> StepResult {
    let mut body = submit::task("interactive", tokens, &Placement::Pin(pool));
    // Without it the lengths seen so far are what is expected.
    body["expected_tokens"] = tokens.into();
    world.submit(&body).await?;
    let task = world.task()?.id.clone();
    let running = |status: &Value| status["state"] == "running";
    wait_status(world.system()?, &task, "the task to run", running).await?;
    Ok(())
}

#[when(expr = "I ask where an interactive task of {int} tokens pinned to {string} would go")]
async fn ask(world: &mut World, tokens: u32, pool: String) -> StepResult {
    let body = submit::task("interactive", tokens, &Placement::Pin(pool));
    let call = Call::post_json("/v1/placement/explain", &body);
    world.answer = Some(world.system()?.call(call).await?);
    Ok(())
}

#[then(expr = "the answer is {int} with code {string} and policy {string}")]
fn refused_by_policy(world: &mut World, status: u16, code: String, policy: String) -> StepResult {
    let answer = world.answer()?;
    let body: Value = answer.json()?;
    assert_eq!(
        (answer.status, &body["code"], &body["policy_label"]),
        (status, &code.into(), &policy.into()),
        "{body}"
    );
    Ok(())
}

#[then("its headers tell the same pause as its body")]
fn same_pause(world: &mut World) -> StepResult {
    let answer = world.answer()?;
    let ms = pause(answer)?;
    assert!(ms > 0, "{}", answer.text());
    Ok(())
}

/// The pause of a refusal, ms; its headers and its body must agree.
fn pause(answer: &Answer) -> anyhow::Result<u64> {
    let body: Value = answer.json()?;
    let ms = body["retry_after_ms"]
        .as_u64()
        .with_context(|| body.to_string())?;
    assert_eq!(
        answer.header("x-backoff-ms"),
        Some(ms.to_string().as_str()),
        "{body}"
    );
    let seconds = ms.div_ceil(1000).to_string();
    assert_eq!(answer.header("retry-after"), Some(seconds.as_str()), "{body}");
    Ok(ms)
}

#[then(expr = "{int} of them are taken and {int} are refused with {string} and a pause")]
fn taken_and_refused(world: &mut World, taken: usize, refused: usize, code: String) -> StepResult {
    let answers = &world.answers;
    let with = |status| answers.iter().filter(move |answer| answer.status == status);
    assert_eq!((with(202).count(), with(429).count()), (taken, refused));
    assert_eq!(answers.len(), taken + refused, "nothing else is answered");
    for answer in with(429) {
        assert_eq!(
            answer.json::<Value>()?["code"],
            code.as_str(),
            "{}",
            answer.text()
        );
        assert!(pause(answer)? > 0);
    }
    Ok(())
}

#[then(expr = "all that were taken end with finish reason {string}")]
async fn all_end(world: &mut World, reason: String) -> StepResult {
    let ids: Vec<String> = world.tasks.iter().map(|task| task.id.clone()).collect();
    assert!(!ids.is_empty(), "nothing was taken");
    for id in ids {
        let mut viewer = Viewer::open(world.system()?, &id).await?;
        viewer.read_to_end().await?;
        let said = viewer.summary()?;
        assert_eq!(said.outcome(), Some(reason.as_str()), "{said:?}");
    }
    Ok(())
}

#[then(expr = "the first task's stream ends with error {string}")]
async fn first_ends(world: &mut World, code: String) -> StepResult {
    let first = world.tasks.first().context("no task was taken")?.id.clone();
    let mut viewer = Viewer::open(world.system()?, &first).await?;
    viewer.read_to_end().await?;
    let said = viewer.summary()?;
    assert_eq!(said.outcome(), Some(code.as_str()), "{said:?}");
    Ok(())
}

#[then(expr = "the other tasks are {string}")]
async fn others_are(world: &mut World, state: String) -> StepResult {
    assert!(world.tasks.len() > 1, "there are no others");
    for task in world.tasks.iter().skip(1) {
        let status = task.status(world.system()?).await?;
        assert_eq!(status["state"], state.as_str(), "{status}");
    }
    Ok(())
}

#[then("the receipt predicts a start")]
fn predicts(world: &mut World) -> StepResult {
    let receipt = &world.task()?.receipt;
    assert!(receipt["predicted_start_ms"].as_u64() > Some(0), "{receipt}");
    Ok(())
}

#[then("its stream tells a start that comes closer")]
async fn comes_closer(world: &mut World) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let path = format!("/v1/tasks/{}/stream", task.id);
    let call = system.authorized(Call::get(&path));
    let mut stream = test_harness_support::sse::SseReader::open(system.address(), &call).await?;
    let told = task.receipt["predicted_start_ms"]
        .as_u64()
        .context("no start was predicted")?;
    let mut closest = told;
    while closest >= told / 2 {
        let event = stream
            .next_event(PATIENCE)
            .await?
            .context("the stream has ended")?;
        let data: Value = serde_json::from_str(&event.data)?;
        if event.name.as_deref() == Some("metrics") && data["phase"] == "queued" {
            closest = data["predicted_start_ms"]
                .as_u64()
                .context("it is not known any more")?;
        }
    }
    assert!(closest < told, "{closest} is not closer than {told}");
    Ok(())
}

#[then(expr = "the explanation says {string} on {string} and no task exists")]
async fn explained(world: &mut World, outcome: String, pool: String) -> StepResult {
    let told: Value = world.answer()?.json()?;
    assert_eq!(
        (&told["outcome"], &told["pool_id"]),
        (&outcome.into(), &pool.into()),
        "{told}"
    );
    let tasks: Value = world.system()?.call(Call::get("/v1/tasks")).await?.json()?;
    assert_eq!(tasks["tasks"].as_array().map(Vec::len), Some(0), "{tasks}");
    Ok(())
}

#[then(expr = "its decision says {string} on {string} with the input that it was made on")]
async fn decision(world: &mut World, outcome: String, pool: String) -> StepResult {
    let path = format!("/v1/tasks/{}/decision", world.task()?.id);
    let told: Value = world.system()?.call(Call::get(&path)).await?.json()?;
    assert_eq!(
        (&told["outcome"], &told["pool_id"]),
        (&outcome.into(), &pool.into()),
        "{told}"
    );
    assert!(told["input"]["snapshot"]["pools"].is_array(), "{told}");
    assert!(
        told["input_digest"].is_string() && told["decision"]["policy_version"].is_u64(),
        "{told}"
    );
    Ok(())
}
