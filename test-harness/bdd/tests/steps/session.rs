//! Sessions, their budgets, deadlines and the rate of a caller.

use anyhow::Context as _;
use cucumber::{given, then, when};
use serde_json::{Value, json};
use test_harness_support::http1::Call;
use test_harness_support::stream_check::Terminal;
use test_harness_support::wait::{Look, wait_for};

use super::gpu_box::two_pools;
use super::submit::{self, Placement};
use crate::world::{PATIENCE, StepResult, World};

#[given(
    expr = "a GPU box with pools {string} and {string} of {int} slot(s) each and at most {int} tasks at once and {int} a minute"
)]
async fn start_limited(
    world: &mut World,
    first: String,
    second: String,
    slots: u32,
    burst: u32,
    per_minute: u32,
) -> StepResult {
    let config = format!("[orchestratord.rate_limit]\nper_minute = {per_minute}\nburst = {burst}\n");
    Ok(world
        .start(two_pools(&first, &second, slots).config(&config))
        .await?)
}

fn turn(tokens: u32, session: &str, placement: &Placement) -> Value {
    let mut body = submit::task("interactive", tokens, placement);
    body["session_id"] = json!(session);
    body
}

#[when(expr = "I submit a task of {int} tokens in session {string}")]
async fn submit_turn(world: &mut World, tokens: u32, session: String) -> StepResult {
    Ok(world
        .submit(&turn(tokens, &session, &Placement::Anywhere))
        .await?)
}

#[when(expr = "I submit a task of {int} tokens in session {string} preferring {string}")]
async fn submit_turn_preferring(world: &mut World, tokens: u32, session: String, pool: String) -> StepResult {
    Ok(world
        .submit(&turn(tokens, &session, &Placement::Prefer(pool)))
        .await?)
}

#[when(expr = "I submit a task of {int} tokens with a deadline of {int} ms")]
async fn submit_with_deadline(world: &mut World, tokens: u32, deadline_ms: u64) -> StepResult {
    let mut body = submit::task("interactive", tokens, &Placement::Anywhere);
    body["deadline_ms"] = json!(deadline_ms);
    Ok(world.submit(&body).await?)
}

#[when(expr = "I end the session {string}")]
async fn end_session(world: &mut World, session: String) -> StepResult {
    let call = Call::new("DELETE", &format!("/v1/sessions/{session}"));
    let answer = world.system()?.call(call).await?;
    assert_eq!(answer.status, 204, "{}", answer.text());
    Ok(())
}

/// The refusal's label, and whether it tells when to come back.
fn check_refused(world: &World, status: u16, label: &str, comes_back: bool) -> anyhow::Result<()> {
    let answer = world.answer()?;
    let body: Value = answer.json()?;
    assert_eq!(
        (answer.status, &body["code"], &body["policy_label"]),
        (status, &json!("ADMISSION_REJECT"), &json!(label)),
        "{body}"
    );
    assert_eq!(body["retriable"], comes_back, "{body}");
    let ms = body["retry_after_ms"].as_u64();
    assert_eq!(ms.is_some(), comes_back, "{body}");
    let header = |name: &str| answer.header(name).and_then(|text| text.parse().ok());
    assert_eq!(header("x-backoff-ms"), ms);
    assert_eq!(header("retry-after"), ms.map(|ms| ms.div_ceil(1000)));
    Ok(())
}

#[then(expr = "it is refused with {int} for {string} and no time to come back")]
fn refused_for_good(world: &mut World, status: u16, label: String) -> StepResult {
    Ok(check_refused(world, status, &label, false)?)
}

#[then(expr = "it is refused with {int} for {string} and a time to come back")]
fn refused_for_now(world: &mut World, status: u16, label: String) -> StepResult {
    Ok(check_refused(world, status, &label, true)?)
}

#[then(expr = "the header {string} says {string}")]
fn header_says(world: &mut World, name: String, value: String) -> StepResult {
    assert_eq!(world.answer()?.header(&name), Some(value.as_str()));
    Ok(())
}

#[then(expr = "the session {string} does not exist")]
async fn no_session(world: &mut World, session: String) -> StepResult {
    let call = Call::get(&format!("/v1/sessions/{session}"));
    assert_eq!(world.system()?.call(call).await?.status, 404);
    Ok(())
}

#[then(expr = "the session {string} was charged what the receipt says of {int} tokens")]
async fn charged(world: &mut World, session: String, budget: u64) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let said = task.watch_to_end(system).await?;
    let Terminal::End(end) = &said.terminal else {
        return Err(anyhow::anyhow!("it failed: {said:?}").into());
    };
    let count = |name: &str| end[name].as_u64().with_context(|| format!("{name} in {end}"));
    let used = count("tokens_in")? + count("tokens_out")?;
    let look = || async {
        let call = Call::get(&format!("/v1/sessions/{session}"));
        let shown = match system.call(call).await {
            Ok(answer) => answer.json().unwrap_or_default(),
            Err(error) => Value::String(error.to_string()),
        };
        if shown["tasks_live"] == 0 {
            Look::Ready(shown)
        } else {
            Look::NotYet(shown)
        }
    };
    let shown = wait_for("the session to be settled", PATIENCE, look).await?;
    assert_eq!(
        (&shown["tokens_spent"], &shown["tokens_budget_remaining"]),
        (&json!(used), &json!(budget - used)),
        "{shown} after {end}"
    );
    Ok(())
}

#[then(expr = "it was dispatched with a {word} cache")]
async fn dispatched(world: &mut World, warmth: String) -> StepResult {
    let (system, task) = world.system_and_task()?;
    let said = task.watch_to_end(system).await?;
    let frame = said.metrics.iter().find(|frame| frame["phase"] == "decoding");
    let frame = frame.with_context(|| format!("no metrics of its dispatch in {said:?}"))?;
    assert_eq!(frame["kv_warmth"], warmth == "warm", "{frame}");
    Ok(())
}
