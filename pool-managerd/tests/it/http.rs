//! The daemon's own routes: who may ask, what is answered, what is refused.

use anyhow::Result;
use api_types::pool::ReplicaState;
use serde_json::Value;
use test_harness_support::http1::{Call, call};

use crate::rig::Rig;

#[tokio::test]
async fn every_route_but_the_health_ones_needs_the_token() -> Result<()> {
    let mut rig = Rig::new().await?;
    rig.variables
        .push(("AUTH_TOKEN".into(), "a-token-for-this-test".into()));
    let mut node = rig.start().await?;
    node.until_state(ReplicaState::Ready).await?;
    let contract = pool_managerd::http::openapi();
    let paths: Vec<String> = contract
        .paths
        .paths
        .keys()
        .map(|path| path.replace("{id}", "p").replace(['{', '}', '*'], ""))
        .collect();
    assert_eq!(paths.len(), 8, "{paths:?}");
    node.token = None;
    for path in &paths {
        let public = ["/healthz", "/readyz"].contains(&path.as_str());
        let status = node.get(path).await?.status;
        assert_eq!(status, if public { 200 } else { 401 }, "{path}");
    }
    node.token = Some("another-token".into());
    let answer = node.get("/v1/node").await?;
    let body: Value = serde_json::from_slice(&answer.body)?;
    assert_eq!((answer.status, &body["numeric_code"]), (401, &Value::from(40102)));
    Ok(())
}

#[tokio::test]
async fn a_foreign_host_is_refused() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    let request = Call::get("/v1/node").header("Host", "evil.example");
    assert_eq!(call(node.daemon.address(), &request).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn wrong_questions_are_answered_with_the_field_and_the_limit() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let cases = [
        ("/v1/pools/q", 404, "no pool q"),
        ("/v1/pools/..%2fp", 400, "PoolId"),
        ("/v1/pools/q/logs?replica_id=r0", 404, "no pool q"),
        ("/v1/pools/p/logs?replica_id=r9", 404, "no replica r9"),
        ("/v1/pools/p/logs", 400, "replica_id"),
        ("/v1/pools/p/logs?replica_id=r0&generation=7", 404, "generation 7"),
        (
            "/v1/pools/p/logs?replica_id=r0&wait_exit_ms=10001",
            400,
            "at most 10000",
        ),
        ("/v1/pools/p/logs?replica_id=r0&follow=perhaps", 400, "follow"),
        ("/v1/relay", 404, "/v1/relay"),
    ];
    for (path, status, words) in cases {
        let answer = node.get(path).await?;
        let text = String::from_utf8(answer.body)?;
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(text.contains(words), "{path}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn the_log_of_a_running_engine_is_cut_to_the_asked_length() -> Result<()> {
    let rig = Rig::new().await?;
    let node = rig.start().await?;
    node.until_ready(1).await?;
    let log = node.json("/v1/pools/p/logs?replica_id=r0&tail=2").await?;
    assert_eq!(log["lines"].as_array().map(Vec::len), Some(2), "{log}");
    assert_eq!((&log["generation"], log.get("exit")), (&Value::from(1), None));
    let pools = node.json("/v1/pools").await?;
    assert_eq!(pools["pools"][0]["pool_id"], "p");
    assert!(!pools.to_string().contains("endpoint_key"));
    Ok(())
}
