//! How honest predicted starts are: mixed work through few slots, the receipt's promise against the real wait.
//!
//! Before the first promise is judged, [`SEEN`] tasks have run. A third of the tasks say how long they are; the others
//! end when the engine likes, which nobody knows beforehand. They come in groups, a little faster than they are served.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use api_types::{Priority, TaskList, TaskReceipt, TaskState};
use serde_json::{Value, json};
use test_harness_support::scripted_engine::Script;
use tokio::time::{interval, sleep};

use super::{Findings, within_limit};
use crate::http::Connection;
use crate::load::MODEL;
use crate::options::Scale;
use crate::relay::{Engine, Ground};
use crate::report::Figure;
use crate::stats::Samples;

/// Few, so that there are waits.
const SLOTS: u32 = 4;
/// From token to token: service times of 40 to 560 ms.
const TOKEN: Duration = Duration::from_millis(20);
/// Tasks that have run before promises are judged.
const SEEN: u32 = 20;
/// Tasks of a group; the next one comes after [`PACE`] for each.
const GROUPS: [u32; 4] = [12, 3, 16, 6];
/// A task of about 300 ms on one of four slots every 70 ms.
const PACE: Duration = Duration::from_millis(70);
/// Shorter waits are none: they are the daemon's own work, not a queue.
const LEAST_WAIT_MS: u64 = 20;
/// Target: per cent of the wait.
const MOST_PERCENT: f64 = 25.0;
/// How often the tasks are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Measures.
pub(super) async fn measure(ground: &Ground, scale: Scale) -> Result<Findings> {
    let script = Script {
        token_delay_us: u64::try_from(TOKEN.as_micros())?,
        ..Script::default()
    };
    let engine = Engine::start(ground, SLOTS, script).await?;
    // Texts end by themselves, after 12 to 28 tokens.
    engine.change_script(&json!({"tokens": null})).await?;
    let mut medians = Vec::new();
    let mut waited = 0;
    for _ in 0..scale.pick(1, 3) {
        let errors = within_limit(errors(ground, &engine, scale.pick(80, 200))).await?;
        ensure!(!errors.is_empty(), "no task waited");
        waited += errors.len();
        medians.push(Samples::new(errors).median());
        engine.is_quiet().await?;
    }
    let figure = Figure::value(
        "predicted start, median error".to_owned(),
        "% of the wait",
        Samples::new(medians),
        None,
        Some(MOST_PERCENT),
    );
    Ok(Findings {
        figures: vec![figure],
        notes: vec![format!("predicted start: judged by {waited} tasks that waited")],
        ..Findings::default()
    })
}

/// Of a fresh orchestrator, which has measured nothing.
async fn errors(ground: &Ground, engine: &Engine, tasks: u32) -> Result<Vec<f64>> {
    let relay = engine.behind_ours(ground).await?;
    let mut connection = relay.target.connect().await?;
    for number in 0..SEEN {
        submit(&mut connection, number).await?;
    }
    all_have_ended(&mut connection).await?;
    let mut promises = Vec::new();
    let (mut number, mut groups) = (SEEN, GROUPS.iter().cycle());
    while number < SEEN + tasks {
        let group = groups.next().copied().unwrap_or(1);
        for number in number..number + group {
            promises.push(submit(&mut connection, number).await?);
        }
        number += group;
        sleep(PACE * group).await;
    }
    all_have_ended(&mut connection).await?;
    let mut errors = Vec::new();
    for promise in &promises {
        let waited = wait_of(&mut connection, promise).await?;
        errors.extend(error_percent(promise.predicted_start_ms, waited));
    }
    Ok(errors)
}

/// |promised − waited| in per cent of the wait; nothing for a task that did not wait, and no promise is wrong beyond
/// any number.
fn error_percent(promised_ms: Option<u64>, waited_ms: u64) -> Option<f64> {
    let off = promised_ms.map_or(f64::INFINITY, |ms| ms.abs_diff(waited_ms) as f64);
    (waited_ms >= LEAST_WAIT_MS).then(|| 100.0 * off / waited_ms as f64)
}

/// Task number `number`: every fourth is batch, every third is short and says so.
fn body(number: u32) -> Value {
    let priority = if number % 4 == 3 {
        Priority::Batch
    } else {
        Priority::Interactive
    };
    let mut body = json!({
        "model_ref": MODEL,
        "prompt": format!("Task {number}: say how long you will take."),
        "seed": number,
        "priority": priority,
    });
    if number.is_multiple_of(3) {
        body["max_tokens"] = (2 + number % 7).into();
    }
    body
}

async fn submit(connection: &mut Connection, number: u32) -> Result<TaskReceipt> {
    let body = serde_json::to_vec(&body(number))?;
    let head = connection.post("/v1/tasks", &body).await?;
    let answer = connection.whole(&head, 202).await.context("submitting a task")?;
    serde_json::from_slice(&answer).context("a task's receipt")
}

async fn all_have_ended(connection: &mut Connection) -> Result<()> {
    let mut look = interval(LOOK);
    for state in [TaskState::Queued, TaskState::Running] {
        let path = format!(
            "/v1/tasks?limit=1&state={}",
            serde_json::to_value(state)?.as_str().unwrap_or_default()
        );
        loop {
            look.tick().await;
            let head = connection.get(&path).await?;
            let page: TaskList = serde_json::from_slice(&connection.whole(&head, 200).await?)?;
            if page.tasks.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

async fn wait_of(connection: &mut Connection, promise: &TaskReceipt) -> Result<u64> {
    let head = connection.get(&format!("/v1/tasks/{}", promise.task_id)).await?;
    let answer = connection.whole(&head, 200).await?;
    let status: api_types::TaskStatus = serde_json::from_slice(&answer).context("a task's status")?;
    ensure!(
        status.state == TaskState::Completed,
        "a task has ended as {:?}: {:?}",
        status.state,
        status.error
    );
    status
        .timings
        .queue_time_ms
        .context("a completed task without a wait")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shares_of_the_wait() {
        assert_eq!(error_percent(Some(150), 100), Some(50.0));
        assert_eq!(error_percent(Some(80), 100), Some(20.0));
        assert_eq!(error_percent(None, 100), Some(f64::INFINITY));
        assert_eq!(error_percent(Some(0), LEAST_WAIT_MS - 1), None);
    }

    #[test]
    fn work_is_mixed() {
        let bodies: Vec<Value> = (0..12).map(body).collect();
        let count = |wanted: fn(&Value) -> bool| bodies.iter().filter(|body| wanted(body)).count();
        assert_eq!(count(|body| body["priority"] == "batch"), 3);
        assert_eq!(count(|body| body["max_tokens"].is_u64()), 4);
    }
}
