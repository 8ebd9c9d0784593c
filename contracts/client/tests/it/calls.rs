//! Each route: what is sent, and what is read back.

use std::time::Duration;

use api_types::link::{EngineLogQuery, NodeReport};
use api_types::operation::OperationKind;
use api_types::{NodeId, PoolId, ReplicaId, SessionId, TaskId, TaskQuery, TaskRequest, TaskState};
use llama_orch_client::{Budgets, ClientError, NodeClient, Timeouts};
use serde_json::json;
use uuid::Uuid;

use crate::server::{Server, TOKEN};

fn task() -> TaskId {
    TaskId::new(Uuid::from_u128(7))
}

fn task_status() -> serde_json::Value {
    json!({
        "task_id": task(), "state": "queued", "priority": "batch", "model_ref": "tiny", "seed": 7,
        "usage": {"tokens_in": 0, "tokens_out": 0}, "timings": {}, "correlation_id": "c-1",
        "stream_url": "/v1/tasks/x/stream"
    })
}

#[tokio::test]
async fn submit_sends_the_request_with_the_token_and_reads_headers() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let request: TaskRequest =
        serde_json::from_value(json!({"model_ref": "tiny", "prompt": "hi", "task_id": task()}))?;
    let serve = async {
        let exchange = server.accept().await?;
        assert_eq!(exchange.line, "POST /v1/tasks");
        assert_eq!(
            exchange.header("authorization"),
            Some(format!("Bearer {TOKEN}").as_str())
        );
        assert_eq!(serde_json::from_str::<TaskRequest>(&exchange.body)?, request);
        let receipt = json!({"task_id": task(), "queue_position": 2, "backoff_ms": 0, "stream_url": "/s"});
        let head = "202 Accepted\nX-Correlation-Id: c-1\nX-Budget-Tokens-Remaining: 12\nX-Budget-Cost-Remaining: 0.5";
        exchange.answer(head, &receipt.to_string()).await
    };
    let (submitted, served) = tokio::join!(client.submit(&request), serve);
    served?;
    let submitted = submitted?;
    assert_eq!(submitted.receipt.queue_position, 2);
    assert_eq!(
        submitted.correlation_id.as_ref().map(|id| id.as_str()),
        Some("c-1")
    );
    let budgets = Budgets {
        tokens_remaining: Some(12),
        time_remaining_ms: None,
        cost_remaining: Some(0.5),
    };
    assert_eq!(submitted.budgets, budgets);
    Ok(())
}

#[tokio::test]
async fn a_session_is_shown_and_ended() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let id: SessionId = "chat-1".parse().map_err(anyhow::Error::msg)?;
    let serve = async {
        let exchange = server.accept().await?;
        assert_eq!(exchange.line, "GET /v1/sessions/chat-1");
        let shown = json!({
            "ttl_ms_remaining": 9, "turns": 1, "turns_max": 8, "tasks_live": 0, "kv_tokens": 0, "kv_warmth": false,
            "tokens_spent": 5, "time_spent_ms": 7, "tokens_budget_remaining": 95
        });
        exchange.answer("200 OK", &shown.to_string()).await?;
        let exchange = server.accept().await?;
        assert_eq!(exchange.line, "DELETE /v1/sessions/chat-1");
        exchange.answer("204 No Content", "").await
    };
    let calls = async { anyhow::Ok((client.session(&id).await?, client.end_session(&id).await?)) };
    let (called, served) = tokio::join!(calls, serve);
    served?;
    let (session, ()) = called?;
    assert_eq!(session.budgets.tokens_budget_remaining, Some(95));
    assert_eq!(session.kv_bytes, None);
    Ok(())
}

#[tokio::test]
async fn task_list_sends_its_query_escaped() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let query = TaskQuery {
        state: Some(TaskState::Queued),
        cursor: Some("a&b=c".into()),
        limit: Some(5),
    };
    let serve = async {
        let exchange = server.accept().await?;
        assert_eq!(
            exchange.line,
            "GET /v1/tasks?state=queued&cursor=a%26b%3Dc&limit=5"
        );
        let list = json!({"tasks": [task_status()], "next_cursor": "n"});
        exchange.answer("200 OK", &list.to_string()).await
    };
    let (list, served) = tokio::join!(client.tasks(&query), serve);
    served?;
    let list = list?;
    assert_eq!(list.tasks[0].task_id, task());
    assert_eq!(list.next_cursor.as_deref(), Some("n"));
    Ok(())
}

#[tokio::test]
async fn calls_without_an_answer_body_go_to_their_routes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let node = NodeId::new("box")?;
    let serve = async {
        let mut lines = Vec::new();
        for _ in 0..2 {
            let exchange = server.accept().await?;
            lines.push(exchange.line.clone());
            exchange.answer("204 No Content", "").await?;
        }
        anyhow::Ok(lines)
    };
    let call = async {
        client.cancel(task()).await?;
        client.deregister(&node).await
    };
    let (called, lines) = tokio::join!(call, serve);
    called?;
    let expected = [
        format!("POST /v1/tasks/{}/cancel", task()),
        "DELETE /v1/workers/box".into(),
    ];
    assert_eq!(lines?, expected);
    Ok(())
}

#[tokio::test]
async fn reads_go_to_their_routes() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let pool = PoolId::new("gpu0")?;
    let health = json!({
        "live": true, "ready": false, "draining": false, "generation": 1, "cause": "VRAM_OOM",
        "metrics": {"slots_total": 0, "slots_free": 0, "active_leases": 0, "restarts": 3}
    });
    let answers = [
        (format!("GET /v1/tasks/{}", task()), task_status()),
        ("GET /v1/pools".into(), json!({"pools": []})),
        ("GET /v1/pools/gpu0/health".into(), health),
        ("GET /v1/nodes".into(), json!({"nodes": []})),
        (
            "GET /v1/capabilities".into(),
            json!({"api_version": "1.0.0", "pools": [], "engines": []}),
        ),
    ];
    let serve = async {
        for (line, body) in &answers {
            let exchange = server.accept().await?;
            assert_eq!(&exchange.line, line);
            exchange.answer("200 OK", &body.to_string()).await?;
        }
        anyhow::Ok(())
    };
    let call = async {
        assert_eq!(client.task(task()).await?.state, TaskState::Queued);
        assert!(client.pools().await?.pools.is_empty());
        assert_eq!(client.pool_health(&pool).await?.metrics.restarts, 3);
        assert!(client.nodes().await?.nodes.is_empty());
        assert_eq!(client.capabilities().await?.api_version, "1.0.0");
        Ok::<_, ClientError>(())
    };
    let (called, served) = tokio::join!(call, serve);
    called?;
    served
}

#[tokio::test]
async fn a_node_registers_and_reports() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let report: NodeReport = serde_json::from_value(json!({
        "node_id": "box", "instance": Uuid::from_u128(1), "seq": 1, "address": "http://127.0.0.1:9200",
        "version": "0.1.0", "gpus": [], "pools": []
    }))?;
    let desired = json!({
        "heartbeat_interval_ms": 500, "stale_after_ms": 2000,
        "pools": [{"pool_id": "gpu0", "generation": 3, "operation_id": Uuid::from_u128(2), "kind": "drain", "deadline_ms": 0}]
    });
    let serve = async {
        for line in ["POST /v1/workers/register", "POST /v1/workers/box/heartbeat"] {
            let exchange = server.accept().await?;
            assert_eq!(exchange.line, line);
            assert_eq!(serde_json::from_str::<NodeReport>(&exchange.body)?, report);
            exchange.answer("200 OK", &desired.to_string()).await?;
        }
        anyhow::Ok(())
    };
    let call = async {
        let first = client.register(&report).await?;
        let second = client.heartbeat(&report.node_id, &report).await?;
        assert_eq!(first, second);
        assert_eq!(first.pools[0].kind, OperationKind::Drain);
        Ok::<_, ClientError>(())
    };
    let (called, served) = tokio::join!(call, serve);
    called?;
    served
}

fn log_query(wait_exit_ms: u64) -> anyhow::Result<EngineLogQuery> {
    Ok(EngineLogQuery {
        replica_id: ReplicaId::new("gpu0-0")?,
        generation: Some(4),
        tail: Some(20),
        follow: None,
        wait_exit_ms: Some(wait_exit_ms),
    })
}

/// REQ-RELAY-WAY-BACK.
#[tokio::test]
async fn a_node_says_who_it_is() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = NodeClient::new(Some(TOKEN.into()), Timeouts::default())?;
    let report = json!({
        "node_id": "box", "instance": Uuid::from_u128(7), "seq": 3, "address": "http://10.0.0.5:9200", "relay": true,
        "version": "0", "gpus": [], "pools": []
    });
    let serve = async {
        let exchange = server.accept().await?;
        assert_eq!(exchange.line, "GET /v1/node");
        assert!(exchange.header("authorization").is_some());
        exchange.answer("200 OK", &report.to_string()).await
    };
    let (node, served) = tokio::join!(client.node(&server.base), serve);
    served?;
    let node: NodeReport = node?;
    assert_eq!(
        (node.node_id.as_str(), node.instance, node.relay),
        ("box", Uuid::from_u128(7), true)
    );
    Ok(())
}

#[tokio::test]
async fn engine_log_names_its_process_and_bounds_the_wait() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = NodeClient::new(Some(TOKEN.into()), Timeouts::default())?;
    let (pool, query) = (PoolId::new("gpu0")?, log_query(3_600_000)?);
    let serve = async {
        let exchange = server.accept().await?;
        let line = "GET /v1/pools/gpu0/logs?replica_id=gpu0-0&generation=4&tail=20&wait_exit_ms=10000";
        assert_eq!(exchange.line, line);
        assert!(exchange.header("authorization").is_some());
        let log = json!({"pool_id": "gpu0", "replica_id": "gpu0-0", "generation": 4, "exit": "signal 9", "lines": ["x"]});
        exchange.answer("200 OK", &log.to_string()).await
    };
    let (log, served) = tokio::join!(client.engine_log(&server.base, &pool, &query), serve);
    served?;
    assert_eq!(log?.exit.as_deref(), Some("signal 9"));
    Ok(())
}

#[tokio::test]
async fn engine_log_gives_up_after_its_own_wait() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let timeouts = Timeouts {
        request: Duration::from_millis(20),
        ..Timeouts::default()
    };
    let client = NodeClient::new(None, timeouts)?;
    let (pool, query) = (PoolId::new("gpu0")?, log_query(5)?);
    let (log, _silent) = tokio::join!(client.engine_log(&server.base, &pool, &query), server.accept());
    let error = log.unwrap_err();
    assert!(
        matches!(&error, ClientError::Timeout { limit, .. } if limit.as_millis() == 25),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .starts_with("pool-managerd at http://127.0.0.1:"),
        "{error}"
    );
    Ok(())
}
