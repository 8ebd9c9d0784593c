//! The link to the orchestrator: registration, reports, wishes, refusals.

use std::time::Duration;

use anyhow::{Context, Result};
use api_types::ErrorCode;
use api_types::pool::ReplicaState;
use test_harness_support::wait::{Look, wait_for};

use crate::orchestrator::{Answer, Kind};
use crate::rig::{LIMIT, Rig, kill};

#[tokio::test]
async fn registers_once_then_reports_in_order_with_the_token() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.variables
        .push(("AUTH_TOKEN".into(), "a-token-for-this-test".into()));
    let node = rig.start().await?;
    let told = node
        .until_told("a ready pool", |report| report.pools[0].is_ready())
        .await?;
    assert_eq!(told.node_id.as_str(), "node-1");
    assert_eq!(told.address, node.daemon.base_url());
    assert_eq!(told.gpus.len(), 2);
    let replica = &told.pools[0].replicas[0];
    assert!(
        replica
            .endpoint
            .as_deref()
            .is_some_and(|url| url.starts_with("http://127.0.0.1:"))
    );
    assert!(replica.endpoint_key.is_some());
    let received = rig.orchestrator.received();
    let registrations = received.iter().filter(|one| one.kind == Kind::Register).count();
    assert_eq!((registrations, received[0].kind), (1, Kind::Register));
    let ordered = received
        .windows(2)
        .all(|pair| pair[0].report.seq < pair[1].report.seq);
    assert!(ordered, "sequence numbers must grow");
    assert!(
        received
            .iter()
            .all(|one| one.authorization.as_deref() == Some("Bearer a-token-for-this-test"))
    );
    Ok(())
}

#[tokio::test]
async fn a_change_is_reported_without_waiting_for_the_next_heartbeat() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.pause_ms = 600_000;
    rig.orchestrator.heartbeat_every(60_000);
    let node = rig.start().await?;
    let told = node
        .until_told("readiness", |report| report.pools[0].is_ready())
        .await?;
    kill(&told.pools[0].replicas[0])?;
    let told = node
        .until_told("the end", |report| !report.pools[0].is_ready())
        .await?;
    let replica = &told.pools[0].replicas[0];
    assert_eq!((replica.state, replica.pid), (ReplicaState::Backoff, None));
    Ok(())
}

/// REQ-FAULT-REPORT-LOST.
#[tokio::test]
async fn an_orchestrator_that_forgot_the_node_learns_of_it_again() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    node.until_told("readiness", |report| report.pools[0].is_ready())
        .await?;
    rig.orchestrator.forget();
    let again = wait_for("a second registration", LIMIT, || async {
        let received = rig.orchestrator.received();
        let registrations = received.iter().filter(|one| one.kind == Kind::Register).count();
        if registrations == 2 {
            Look::Ready(received)
        } else {
            Look::NotYet(registrations)
        }
    })
    .await?;
    let last = again.last().context("nothing received")?;
    assert!(last.report.pools[0].is_ready(), "the engine went on meanwhile");
    node.until_logged("does not know this node").await?;
    Ok(())
}

#[tokio::test]
async fn a_refused_token_is_explained_and_engines_go_on() -> Result<()> {
    for (code, words) in [
        (ErrorCode::BadToken, "compare with the AUTH_TOKEN"),
        (ErrorCode::MissingToken, "did not arrive"),
        (ErrorCode::Forbidden, "told to allow"),
    ] {
        let mut rig = Rig::new().await?;
        rig.variables
            .push(("AUTH_TOKEN".into(), "canary-wrong-token".into()));
        rig.orchestrator.answer(Answer::Refuse(code));
        let node = rig.start().await?;
        let engine = node.until_ready(1).await?.pid;
        node.until_logged("refuses this node").await?;
        node.until_logged(words).await?;
        assert!(!node.daemon.logs().contains("canary"), "the token is in the log");
        let before = rig.orchestrator.received().len();
        assert!(before < 20, "{before} reports without a pause");
        rig.orchestrator.answer(Answer::Accept(Vec::new()));
        node.until_logged("knows this node").await?;
        assert_eq!(node.until_ready(1).await?.pid, engine);
    }
    Ok(())
}

#[tokio::test]
async fn an_orchestrator_in_trouble_stops_no_engine() -> Result<()> {
    let mut rig = Rig::new().await?;
    // Nobody listens there.
    rig.node = "orchestrator_url = \"http://127.0.0.1:9\"".into();
    let node = rig.start().await?;
    node.until_ready(1).await?;
    node.until_logged("engines keep running").await?;

    let rig = Rig::new().await?;
    let node = rig.start().await?;
    let engine = node.until_ready(1).await?.pid;
    rig.orchestrator.answer(Answer::Broken);
    node.until_logged("engines keep running").await?;
    rig.orchestrator.answer(Answer::Accept(Vec::new()));
    node.until_logged("answers again").await?;
    assert_eq!(node.until_ready(1).await?.pid, engine);
    Ok(())
}

#[tokio::test]
async fn the_last_report_says_that_the_engines_are_gone() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    node.until_told("readiness", |report| report.pools[0].is_ready())
        .await?;
    node.daemon.signal(test_harness_support::daemon::Signal::INT)?;
    assert_eq!(node.daemon.wait(Duration::from_secs(30)).await?.code(), Some(0));
    let last = rig.orchestrator.last().context("no report")?;
    let replica = &last.pools[0].replicas[0];
    assert_eq!((replica.state, replica.pid), (ReplicaState::Stopped, None));
    assert_eq!(replica.endpoint_key, None);
    Ok(())
}
