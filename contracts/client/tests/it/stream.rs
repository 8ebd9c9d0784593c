//! A stream on one connection: what is handed out, and where it ends.

use std::pin::pin;

use api_types::{ErrorCode, TaskEvent, TaskId};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use llama_orch_client::{ClientError, ProtocolFault, StreamItem};
use uuid::Uuid;

use crate::server::Server;

pub(crate) const STARTED: &str = "id: 0.0\nevent: started\ndata: {\"task_id\":\"00000000-0000-0000-0000-000000000000\",\
    \"queue_position\":0,\"model_ref\":\"tiny\",\"seed\":7,\"correlation_id\":\"c-1\"}\n\n";

pub(crate) const END: &str = "id: 0.99\nevent: end\ndata: {\"finish_reason\":\"stop\",\"tokens_in\":3,\"tokens_out\":2,\
    \"queue_time_ms\":1,\"decode_time_ms\":5,\"decode_ms\":5,\"seed\":7,\"kv_warmth\":false}\n\n";

const METRICS: &str =
    "event: metrics\ndata: {\"phase\":\"queued\",\"queue_depth\":1,\"kv_warmth\":false}\n\n";

pub(crate) fn token(index: u64, text: &str) -> String {
    let n = index + 1;
    format!("id: 0.{n}\nevent: token\ndata: {{\"t\":{text:?},\"i\":{index}}}\n\n")
}

/// An event by its id, its name, and its text where it is a token.
pub(crate) fn brief(item: &StreamItem) -> String {
    let id = item.id.as_deref().unwrap_or("-");
    match &item.event {
        TaskEvent::Token(token) => format!("{id} token {} {}", token.i, token.t),
        event => format!("{id} {}", event.name()),
    }
}

/// What a client sees of a stream that is `text` and ends with the connection.
async fn seen(text: &str) -> anyhow::Result<(Vec<String>, Option<ClientError>)> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async {
        let mut exchange = server.accept().await?;
        assert_eq!(exchange.line, format!("GET /v1/tasks/{}/stream", Uuid::nil()));
        assert_eq!(exchange.header("accept"), Some("text/event-stream"));
        assert_eq!(exchange.header("last-event-id"), None);
        exchange.open_stream().await?;
        exchange.write(text).await?;
        exchange.closed_by_client().await
    };
    let follow = async {
        let mut items = pin!(client.stream(TaskId::new(Uuid::nil()), None));
        let mut seen = Vec::new();
        while let Some(item) = items.next().await {
            match item {
                Ok(item) => seen.push(brief(&item)),
                Err(error) => {
                    assert!(items.next().await.is_none(), "something follows {error:?}");
                    return (seen, Some(error));
                }
            }
        }
        (seen, None)
    };
    let (seen, served) = tokio::join!(follow, serve);
    served?;
    Ok(seen)
}

#[tokio::test]
async fn events_come_in_order_with_their_own_ids() -> anyhow::Result<()> {
    let text = [
        ": heartbeat\n\n",
        STARTED,
        METRICS,
        &token(0, "a"),
        METRICS,
        &token(1, "é\n"),
        END,
    ]
    .concat();
    let expected = [
        "0.0 started",
        "- metrics",
        "0.1 token 0 a",
        "- metrics",
        "0.2 token 1 é\n",
        "0.99 end",
    ];
    let (seen, error) = seen(&text).await?;
    assert_eq!(seen, expected);
    assert!(error.is_none(), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_is_handed_out_after_the_terminal_event() -> anyhow::Result<()> {
    let error_event =
        "id: 0.2\nevent: error\ndata: {\"code\":\"WORKER_RESET\",\"message\":\"m\",\"retriable\":true}\n\n";
    for terminal in [END, error_event] {
        let (seen, error) = seen(&[STARTED, terminal, &token(0, "late"), END].concat()).await?;
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert!(error.is_none(), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_is_handed_out_token_by_token() -> anyhow::Result<()> {
    let batch = "id: 0.2\nevent: token\ndata: {\"batch\":[{\"t\":\"a\",\"i\":0},{\"t\":\"b\",\"i\":1}]}\n\n";
    let (seen, _) = seen(&[STARTED, batch, END].concat()).await?;
    assert_eq!(seen, ["0.0 started", "- token 0 a", "0.2 token 1 b", "0.99 end"]);
    Ok(())
}

#[tokio::test]
async fn events_of_later_versions_are_skipped() -> anyhow::Result<()> {
    let later = "id: 0.1\nevent: thought\ndata: not even JSON\n\n";
    let (seen, error) = seen(&[STARTED, later, END].concat()).await?;
    assert_eq!(seen, ["0.0 started", "0.99 end"]);
    assert!(error.is_none(), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn malformed_data_is_reported_after_what_came_before_it() -> anyhow::Result<()> {
    let (seen, error) = seen(&[STARTED, "id: 0.1\nevent: token\ndata: {\"t\":1}\n\n", END].concat()).await?;
    assert_eq!(seen, ["0.0 started"]);
    let fault = match error {
        Some(ClientError::Protocol { source, .. }) => source,
        other => anyhow::bail!("{other:?}"),
    };
    assert!(
        matches!(&fault, ProtocolFault::Event { name, .. } if name == "token"),
        "{fault:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_terminal_event_before_the_position_ends_the_stream_at_once() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async {
        let exchange = server.accept().await?;
        assert_eq!(exchange.header("last-event-id"), Some("0.99"));
        exchange.answer("204 No Content", "").await
    };
    let stream = client.stream(TaskId::new(Uuid::nil()), Some("0.99".into()));
    let (items, served) = tokio::join!(stream.try_collect::<Vec<_>>(), serve);
    served?;
    assert_eq!(items?, []);
    Ok(())
}

#[tokio::test]
async fn refusals_and_strangers_end_the_stream_with_an_error() -> anyhow::Result<()> {
    let unknown = "{\"code\":\"NOT_FOUND\",\"message\":\"no such task\",\"retriable\":false}";
    for (head, body) in [
        ("404 Not Found", unknown),
        ("200 OK\nContent-Type: text/html", "<html>"),
        ("503 Service Unavailable", "down"),
    ] {
        let server = Server::start().await?;
        let client = server.client()?;
        let serve = async { server.accept().await?.answer(head, body).await };
        let stream = client.stream(TaskId::new(Uuid::nil()), None);
        let (items, served) = tokio::join!(stream.collect::<Vec<_>>(), serve);
        served?;
        assert_eq!(items.len(), 1, "{items:?}");
        let error = items.into_iter().next().and_then(Result::err);
        let is_not_found = matches!(&error, Some(ClientError::Api(e)) if e.body.code == ErrorCode::NotFound);
        assert!(
            is_not_found || matches!(error, Some(ClientError::Protocol { .. })),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_id_that_no_header_can_carry_is_refused() -> anyhow::Result<()> {
    let client = crate::server::client_of("http://127.0.0.1:1".into(), None)?;
    let stream = client.stream(TaskId::new(Uuid::nil()), Some("0.1\n".into()));
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(matches!(error, ClientError::LastEventId { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let text = [STARTED, &token(0, "a"), &token(1, "b"), END].concat();
    let serve = async {
        let mut exchange = server.accept().await?;
        exchange.open_stream().await?;
        for byte in text.bytes() {
            exchange.write([byte]).await?;
            tokio::task::yield_now().await;
        }
        exchange.closed_by_client().await
    };
    let follow = async {
        let mut items = pin!(client.stream(TaskId::new(Uuid::nil()), None));
        let mut seen = Vec::new();
        loop {
            // Each wait is dropped at once unless an event is there; the socket is what wakes this task.
            match items.next().now_or_never() {
                None => tokio::task::yield_now().await,
                Some(None) => return Ok(seen),
                Some(Some(item)) => seen.push(brief(&item?)),
            }
        }
    };
    let (seen, served) = tokio::join!(follow, serve);
    served?;
    let seen: Result<Vec<String>, ClientError> = seen;
    assert_eq!(
        seen?,
        ["0.0 started", "0.1 token 0 a", "0.2 token 1 b", "0.99 end"]
    );
    Ok(())
}
