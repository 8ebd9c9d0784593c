//! ORCH-3460: a whole system after real traffic against `ci/metrics.lint.json`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use test_harness_metrics_contract::exposition::Exposition;
use test_harness_metrics_contract::lint::Lint;
use test_harness_support::binaries::workspace_root;
use test_harness_support::http1::Call;
use test_harness_support::scripted_engine::Script;
use test_harness_support::sse::SseReader;
use test_harness_support::system::{MODEL, Plan, System};
use test_harness_support::wait::{Look, wait_for};

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// In a prompt; no label may carry it.
const REQUEST_TEXT: &str = "words-of-a-client";

fn task(max_tokens: u32, priority: &str) -> Value {
    json!({"model_ref": MODEL, "prompt": REQUEST_TEXT, "max_tokens": max_tokens, "priority": priority})
}

async fn submit(system: &System, body: &Value) -> Result<Option<String>> {
    let answer = system.call(Call::post_json("/v1/tasks", body)).await?;
    let told: Value = answer.json()?;
    ensure!(matches!(answer.status, 202 | 404 | 429), "{told}");
    Ok(told["task_id"].as_str().map(str::to_owned))
}

async fn stream(system: &System, task: &str) -> Result<SseReader> {
    let call = Call::get(&format!("/v1/tasks/{task}/stream"));
    Ok(SseReader::open(system.address(), &call).await?)
}

async fn wait_state(system: &System, task: &str, state: &'static str) -> Result<()> {
    let look = || async {
        let answer = system.call(Call::get(&format!("/v1/tasks/{task}"))).await;
        match answer.ok().and_then(|answer| answer.json::<Value>().ok()) {
            Some(shown) if shown["state"] == state => Look::Ready(()),
            shown => Look::NotYet(shown),
        }
    };
    Ok(wait_for(state, LIMIT, look).await?)
}

/// Ends, a cancel, a client that goes away, refusals, a full queue.
async fn traffic(system: &System) -> Result<()> {
    let done = submit(system, &task(6, "batch")).await?.context("admitted")?;
    stream(system, &done).await?.all_events(LIMIT).await?;
    let mut running = Vec::new();
    for _ in 0..2 {
        let id = submit(system, &task(900, "interactive"))
            .await?
            .context("admitted")?;
        wait_state(system, &id, "running").await?;
        running.push(id);
    }
    let mut refused = 0;
    for _ in 0..4 {
        refused += u32::from(submit(system, &task(4, "batch")).await?.is_none());
    }
    ensure!(
        refused == 2,
        "the queue holds two of four: {refused} were refused"
    );
    let cancel = Call::post(&format!("/v1/tasks/{}/cancel", running[0]));
    ensure!(system.call(cancel).await?.status == 204);
    let mut leaving = stream(system, &running[1]).await?;
    leaving.next_event(LIMIT).await?;
    drop(leaving);
    wait_state(system, &running[1], "canceled").await?;
    let unknown = json!({"model_ref": "nonesuch", "prompt": REQUEST_TEXT});
    ensure!(submit(system, &unknown).await?.is_none());
    Ok(())
}

async fn scrape(system: &System) -> Result<(String, Exposition)> {
    let answer = system.call(Call::get("/metrics")).await?;
    let text = answer.text();
    let read = Exposition::parse(&text)?;
    Ok((text, read))
}

#[tokio::test]
async fn the_contract_holds_after_real_traffic() -> Result<()> {
    let file = workspace_root().join("ci/metrics.lint.json");
    let lint: Lint = serde_json::from_slice(&std::fs::read(file)?)?;
    let script = Script::default().paced(1, 5_000).tokens(1000);
    let plan = Plan::reference_box(1)
        .scripts(&script)
        .config("[orchestratord.queue]\ncapacity = 2\n");
    let system = System::start(plan).await?;
    traffic(&system).await?;
    let (text, first) = scrape(&system).await?;
    let violations = lint.violations(&first);
    assert!(violations.is_empty(), "{violations:#?}\n{text}");
    assert!(
        !text.contains(REQUEST_TEXT),
        "a label carries a client's words:\n{text}"
    );
    let again = submit(&system, &task(3, "interactive"))
        .await?
        .context("admitted")?;
    stream(&system, &again).await?.all_events(LIMIT).await?;
    let (_, second) = scrape(&system).await?;
    assert_eq!(lint.falls(&first, &second), [""; 0]);
    Ok(())
}
