//! Drain, reload, load and unload over real engines: what the orchestrator orders, what the pool becomes.

use std::fs;

use anyhow::{Context, Result};
use api_types::link::ReplicaLeases;
use api_types::operation::{DesiredPool, ModelChoice, OperationKind, OperationPhase, OperationState};
use api_types::pool::{PoolReport, ReplicaState, UnreadyCause};
use serde_json::json;
use uuid::Uuid;

use crate::orchestrator::Answer;
use crate::rig::{LIMIT, Node, Rig, is_gone, pid};

/// What the orchestrator orders.
fn order(generation: u64, kind: OperationKind, model: Option<&str>, deadline_ms: u64) -> Result<Answer> {
    let choice = |name: &str| -> Result<ModelChoice> {
        Ok(ModelChoice {
            model_ref: name.parse()?,
            model_id: name
                .rsplit('/')
                .next()
                .unwrap_or(name)
                .trim_end_matches(".gguf")
                .parse()?,
        })
    };
    Ok(Answer::Accept(vec![DesiredPool {
        pool_id: "p".parse()?,
        generation,
        operation_id: Uuid::from_u128(u128::from(generation)),
        kind,
        model: model.map(choice).transpose()?,
        deadline_ms,
    }]))
}

/// A node that may take models from its own folder.
async fn rig() -> Result<Rig> {
    let mut rig = Rig::new().await?;
    rig.node = format!("model_dirs = [{:?}]", rig.dir.path());
    Ok(rig)
}

/// One runs on the first replica.
fn a_task() -> Result<Vec<ReplicaLeases>> {
    Ok(vec![ReplicaLeases {
        pool_id: "p".parse()?,
        replica_id: "r0".parse()?,
        leases: 1,
    }])
}

fn reference(rig: &Rig, name: &str) -> String {
    format!("file:{}/{name}.gguf", rig.dir.path().display())
}

async fn over(node: &Node, generation: u64) -> Result<PoolReport> {
    node.until("the operation to be over", |pool| {
        let over = |state| state != OperationState::Running;
        pool.operation_generation == generation && pool.operation.as_ref().is_some_and(|it| over(it.state))
    })
    .await
}

fn state(pool: &PoolReport) -> Result<OperationState> {
    Ok(pool.operation.as_ref().context("no operation")?.state)
}

fn reason(pool: &PoolReport) -> &str {
    let operation = pool.operation.as_ref();
    operation.and_then(|it| it.reason.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn a_drain_waits_for_running_tasks_and_lasts_until_a_load() -> Result<()> {
    let rig = rig().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?;
    rig.orchestrator.lease(a_task()?);
    rig.orchestrator
        .answer(order(1, OperationKind::Drain, None, 600_000)?);
    let pool = node
        .until("the drain", |pool| pool.cause == Some(UnreadyCause::Draining))
        .await?;
    assert_eq!(pool.replicas[0].state, ReplicaState::Draining);
    assert_eq!(pool.replicas[0].pid, engine.pid, "a task runs there");
    rig.orchestrator.lease(Vec::new());
    let pool = over(&node, 1).await?;
    assert_eq!(state(&pool)?, OperationState::Succeeded);
    assert!(pool.draining && is_gone(pid(&engine)?));

    // It lasts over a restart of the daemon.
    node.stop().await?;
    let node = rig.start().await?;
    let pool = node.until("the drain", |pool| pool.draining).await?;
    assert_eq!(
        (pool.cause, pool.operation_generation),
        (Some(UnreadyCause::Draining), 1)
    );

    // An older operation is a late one.
    rig.orchestrator.answer(order(2, OperationKind::Load, None, 0)?);
    let pool = over(&node, 2).await?;
    assert!(pool.is_ready());
    rig.orchestrator.answer(order(1, OperationKind::Drain, None, 0)?);
    rig.orchestrator.reports(3, LIMIT).await?;
    assert!(node.pool().await?.is_ready());
    Ok(())
}

#[tokio::test]
async fn a_drain_past_its_deadline_ends_the_engine() -> Result<()> {
    let rig = rig().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?;
    rig.orchestrator.lease(a_task()?);
    rig.orchestrator.answer(order(1, OperationKind::Drain, None, 50)?);
    over(&node, 1).await?;
    assert!(is_gone(pid(&engine)?));
    Ok(())
}

/// The header does not say how large the model is, so nothing is loaded beside the old one.
#[tokio::test]
async fn a_reload_swaps_in_place_and_goes_back_where_the_new_model_fails() -> Result<()> {
    let rig = rig().await?;
    fs::write(rig.dir.path().join("next.gguf"), b"GGUF and nothing else either")?;
    let node = rig.start().await?;
    let first = node.until_ready(1).await?;
    rig.orchestrator.answer(order(
        1,
        OperationKind::Reload,
        Some(&reference(&rig, "next")),
        0,
    )?);
    let pool = over(&node, 1).await?;
    assert_eq!(state(&pool)?, OperationState::Succeeded, "{}", reason(&pool));
    assert_eq!(
        (pool.model_id.as_str(), pool.is_ready(), pool.generation),
        ("next", true, 2)
    );
    assert!(is_gone(pid(&first)?));
    let next = pool.replicas[0].clone();
    assert_eq!(next.replica_id.as_str(), "r1");

    // Every start of an engine fails from now on; the one that serves has to be ended to find that out.
    rig.script(&json!({"start_failure": {"exit_code": 1, "message": "as the test says"}}))?;
    rig.orchestrator.answer(order(
        2,
        OperationKind::Reload,
        Some(&reference(&rig, "tiny")),
        0,
    )?);
    node.until("the way back", |pool| {
        pool.operation
            .as_ref()
            .is_some_and(|it| it.phase == OperationPhase::Restoring)
    })
    .await?;
    rig.script(&json!({}))?;
    let pool = over(&node, 2).await?;
    assert_eq!(state(&pool)?, OperationState::Failed);
    assert_eq!((pool.model_id.as_str(), pool.is_ready()), ("next", true));
    for words in ["as the test says", "is served again"] {
        assert!(reason(&pool).contains(words), "{}", reason(&pool));
    }
    Ok(())
}

/// REQ-OPERATION-ROOTS.
#[tokio::test]
async fn a_model_outside_of_the_folders_or_absent_changes_nothing() -> Result<()> {
    let rig = rig().await?;
    let elsewhere = tempfile::tempdir()?;
    fs::write(elsewhere.path().join("m.gguf"), b"GGUF")?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?;
    let outside = format!("file:{}/m.gguf", elsewhere.path().display());
    for (generation, named) in [(1, outside), (2, reference(&rig, "absent"))] {
        rig.orchestrator
            .answer(order(generation, OperationKind::Reload, Some(&named), 0)?);
        let pool = over(&node, generation).await?;
        assert_eq!(state(&pool)?, OperationState::Failed);
        assert!(reason(&pool).contains("model_dirs"), "{}", reason(&pool));
        assert_eq!((pool.is_ready(), pool.replicas[0].pid), (true, engine.pid));
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_goes_on_after_the_daemon_was_killed() -> Result<()> {
    let mut rig = rig().await?;
    rig.keep_engines = true;
    fs::write(rig.dir.path().join("next.gguf"), b"GGUF and nothing else either")?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    rig.orchestrator.lease(a_task()?);
    rig.orchestrator.answer(order(
        1,
        OperationKind::Reload,
        Some(&reference(&rig, "next")),
        600_000,
    )?);
    node.until("the order to be recorded", |pool| pool.operation_generation == 1)
        .await?;
    node.crash().await?;
    rig.orchestrator.answer(Answer::Accept(Vec::new()));
    rig.orchestrator.lease(Vec::new());
    let node = rig.start().await?;
    let pool = over(&node, 1).await?;
    assert_eq!(
        (pool.model_id.as_str(), state(&pool)?),
        ("next", OperationState::Succeeded)
    );
    Ok(())
}

/// REQ-OPERATION-RELOAD.
#[tokio::test]
async fn a_reload_to_the_same_reference_takes_the_file_that_is_there_now() -> Result<()> {
    let rig = rig().await?;
    let node = rig.start().await?;
    let first = node.until_ready(1).await?;
    let digest = |pool: &PoolReport| pool.model_digest.clone();
    let before = node
        .until("the digest", |pool| pool.model_digest.is_some())
        .await?;
    let replacement = rig.dir.path().join("other");
    fs::write(&replacement, b"GGUF and something else")?;
    fs::rename(&replacement, rig.dir.path().join("tiny.gguf"))?;
    rig.orchestrator.answer(order(
        1,
        OperationKind::Reload,
        Some(&reference(&rig, "tiny")),
        0,
    )?);
    let pool = over(&node, 1).await?;
    assert_eq!(state(&pool)?, OperationState::Succeeded, "{}", reason(&pool));
    assert!(is_gone(pid(&first)?));
    let after = node
        .until("the new digest", |pool| {
            pool.is_ready() && pool.model_digest.is_some() && digest(pool) != digest(&before)
        })
        .await?;
    assert_eq!((after.model_id.as_str(), after.generation), ("tiny", 2));
    Ok(())
}

/// REQ-OPERATION-REVIVE.
#[tokio::test]
async fn a_load_revives_a_pool_that_was_given_up() -> Result<()> {
    let rig = rig().await?;
    rig.script(&json!({"start_failure": {"exit_code": 1, "message": "as the test says"}}))?;
    let node = rig.start().await?;
    node.until("the budget to be spent", |pool| {
        pool.cause == Some(UnreadyCause::RestartBudgetExhausted)
    })
    .await?;
    rig.orchestrator.answer(order(1, OperationKind::Load, None, 0)?);
    let pool = over(&node, 1).await?;
    assert_eq!(state(&pool)?, OperationState::Failed);
    assert_eq!(pool.replicas[0].generation, 8, "it had its budget again");
    rig.script(&json!({}))?;
    rig.orchestrator.answer(order(2, OperationKind::Load, None, 0)?);
    let pool = over(&node, 2).await?;
    assert_eq!(
        (state(&pool)?, pool.is_ready()),
        (OperationState::Succeeded, true)
    );
    Ok(())
}

/// REQ-MODEL-DEMAND: a task's wish must not become a restart storm.
/// REQ-FAULT-RESTART-STORM.
#[tokio::test]
async fn a_model_that_could_not_be_loaded_is_not_offered_to_tasks() -> Result<()> {
    let mut rig = rig().await?;
    rig.pool = "load_on = \"demand\"".to_owned();
    rig.script(&json!({"start_failure": {"exit_code": 1, "message": "as the test says"}}))?;
    let node = rig.start().await?;
    let pool = node.until("a look at it", |pool| pool.unloaded).await?;
    assert_eq!(pool.loadable().count(), 1);
    rig.orchestrator.answer(order(1, OperationKind::Load, None, 0)?);
    let pool = over(&node, 1).await?;
    assert_eq!(
        (state(&pool)?, pool.loadable().count()),
        (OperationState::Failed, 0)
    );
    assert_eq!(pool.cause, Some(UnreadyCause::RestartBudgetExhausted));
    assert!(
        pool.hint
            .as_deref()
            .is_some_and(|hint| hint.contains("as the test says")),
        "{:?}",
        pool.hint
    );
    rig.script(&json!({}))?;
    rig.orchestrator.answer(order(2, OperationKind::Load, None, 0)?);
    let pool = over(&node, 2).await?;
    assert!(pool.is_ready() && pool.models[0].load_failed.is_none());
    Ok(())
}

#[tokio::test]
async fn a_pool_that_loads_on_demand_starts_nothing_by_itself() -> Result<()> {
    let mut rig = rig().await?;
    rig.pool = "load_on = \"demand\"".to_owned();
    let node = rig.start().await?;
    let pool = node.until("a look at it", |pool| pool.unloaded).await?;
    assert_eq!(
        (pool.cause, pool.replicas.len()),
        (Some(UnreadyCause::Stopped), 1)
    );
    rig.orchestrator.answer(order(1, OperationKind::Load, None, 0)?);
    assert!(over(&node, 1).await?.is_ready());
    Ok(())
}
