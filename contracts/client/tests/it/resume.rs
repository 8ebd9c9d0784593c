//! A stream over several connections: nothing numbered is lost or repeated, and the tries are bounded.

use api_types::TaskId;
use futures_util::{StreamExt, TryStreamExt};
use llama_orch_client::{ClientError, OrchestratorClient};
use uuid::Uuid;

use crate::server::{Exchange, Server};
use crate::stream::{END, STARTED, brief, token};

const UNKNOWN_TASK: &str = "{\"code\":\"NOT_FOUND\",\"message\":\"no such task\",\"retriable\":false}";

async fn follow(client: &OrchestratorClient) -> Result<Vec<String>, ClientError> {
    let stream = client.stream(TaskId::new(Uuid::nil()), None);
    stream.map_ok(|item| brief(&item)).try_collect().await
}

/// The frames after the one that the client names.
fn rest<'t>(frames: &'t [String], exchange: &Exchange) -> &'t [String] {
    let Some(id) = exchange.header("last-event-id") else {
        return frames;
    };
    let seen = frames
        .iter()
        .position(|frame| frame.starts_with(&format!("id: {id}\n")));
    seen.map_or(frames, |seen| &frames[seen + 1..])
}

/// How the first connection ends after `cut` bytes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The body's end is the connection's: it looks complete.
    Quiet,
    /// Inside a chunked body: the transport notices.
    Torn,
}

async fn serve_cut(server: &Server, frames: &[String], cut: usize, how: Cut) -> anyhow::Result<()> {
    let text = frames.concat();
    let mut first = server.accept().await?;
    match how {
        Cut::Quiet => {
            first.open_stream().await?;
            first.write(&text.as_bytes()[..cut]).await?;
        }
        Cut::Torn => {
            first.open_chunked_stream().await?;
            first.write_chunk(&text.as_bytes()[..cut]).await?;
        }
    }
    first.hang_up().await?;
    let mut second = server.accept().await?;
    let rest = rest(frames, &second).concat();
    second.open_stream().await?;
    second.write(rest).await?;
    second.closed_by_client().await
}

#[tokio::test]
async fn a_cut_at_any_byte_loses_and_repeats_nothing() -> anyhow::Result<()> {
    let frames = [
        STARTED.to_owned(),
        token(0, "a"),
        token(1, "é"),
        token(2, "\n"),
        END.to_owned(),
    ];
    let whole: Vec<String> = [
        "0.0 started",
        "0.1 token 0 a",
        "0.2 token 1 é",
        "0.3 token 2 \n",
        "0.99 end",
    ]
    .map(str::to_owned)
    .into();
    let server = Server::start().await?;
    let client = server.client()?;
    // From the first byte to the last but one: the last completes the terminal event.
    for cut in 1..frames.concat().len() {
        let how = if cut % 2 == 0 { Cut::Quiet } else { Cut::Torn };
        let (seen, served) = tokio::join!(follow(&client), serve_cut(&server, &frames, cut, how));
        served?;
        assert_eq!(seen?, whole, "cut {how:?} after {cut} bytes");
    }
    Ok(())
}

/// ORCH-3716: the server lost the end of its transcript. What it takes back is told, and the next try asks from there.
#[tokio::test]
async fn a_resync_moves_the_place_to_resume_from() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let served = async {
        let mut first = server.accept().await?;
        first.open_stream().await?;
        first
            .write(STARTED.to_owned() + &token(0, "a") + &token(1, "b"))
            .await?;
        first.hang_up().await?;
        let mut second = server.accept().await?;
        assert_eq!(second.header("last-event-id"), Some("0.2"));
        second.open_stream().await?;
        second
            .write("event: resync\ndata: {\"epoch\":1,\"from\":1}\n\n")
            .await?;
        second.hang_up().await?;
        let mut third = server.accept().await?;
        assert_eq!(third.header("last-event-id"), Some("1.1"));
        third.open_stream().await?;
        third.write(END.to_owned()).await?;
        third.closed_by_client().await
    };
    let (seen, served) = tokio::join!(follow(&client), served);
    served?;
    assert_eq!(
        seen?,
        [
            "0.0 started",
            "0.1 token 0 a",
            "0.2 token 1 b",
            "- resync",
            "0.99 end"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn progress_starts_the_count_of_tries_anew() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    // One frame per connection: more connections than tries.
    let mut frames = vec![STARTED.to_owned()];
    frames.extend((0..20).map(|i| token(i, "x")));
    frames.push(END.to_owned());
    let serve = async {
        for at in 0..frames.len() {
            let mut exchange = server.accept().await?;
            assert_eq!(rest(&frames, &exchange).len(), frames.len() - at);
            exchange.open_stream().await?;
            exchange.write(&frames[at]).await?;
            exchange.hang_up().await?;
        }
        anyhow::Ok(())
    };
    let (seen, served) = tokio::join!(follow(&client), serve);
    served?;
    assert_eq!(seen?.len(), frames.len());
    Ok(())
}

#[tokio::test]
async fn connections_without_progress_are_given_up() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async {
        for _ in 0..4 {
            let mut exchange = server.accept().await?;
            exchange.open_stream().await?;
            exchange.write(": heartbeat\n\nevent: narration\ndata: {\"human\":\"h\",\"actor\":\"a\",\"action\":\"b\"}\n\n").await?;
            exchange.hang_up().await?;
        }
        anyhow::Ok(())
    };
    let (seen, served) = tokio::join!(follow(&client), serve);
    served?;
    let error = seen.unwrap_err();
    assert!(
        matches!(error, ClientError::Disconnected { source: None, .. }),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_stays_away_is_unreachable_in_the_end() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async {
        let mut exchange = server.accept().await?;
        exchange.open_stream().await?;
        exchange.write(STARTED).await?;
        drop(server);
        exchange.hang_up().await
    };
    let (seen, served) = tokio::join!(follow(&client), serve);
    served?;
    let error = seen.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    Ok(())
}

/// A stream that breaks once, and what the second connection is answered.
async fn broken_then(head: &str, body: &str) -> anyhow::Result<Vec<Result<String, ClientError>>> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async {
        let mut exchange = server.accept().await?;
        exchange.open_stream().await?;
        exchange.write(STARTED).await?;
        exchange.hang_up().await?;
        server.accept().await?.answer(head, body).await
    };
    let stream = client.stream(TaskId::new(Uuid::nil()), None);
    let items = stream.map(|item| item.map(|item| brief(&item)));
    let (items, served) = tokio::join!(items.collect(), serve);
    served?;
    Ok(items)
}

#[tokio::test]
async fn a_refusal_ends_the_tries() -> anyhow::Result<()> {
    let items = broken_then("404 Not Found", UNKNOWN_TASK).await?;
    let [Ok(started), Err(ClientError::Api(error))] = &items[..] else {
        anyhow::bail!("{items:?}");
    };
    assert_eq!(started, "0.0 started");
    assert_eq!(error.status.as_u16(), 404);
    Ok(())
}

#[tokio::test]
async fn an_end_in_between_ends_the_stream_quietly() -> anyhow::Result<()> {
    let items = broken_then("204 No Content", "").await?;
    assert!(
        matches!(&items[..], [Ok(started)] if started == "0.0 started"),
        "{items:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_asks_for_more_patience_than_there_is_gets_none() -> anyhow::Result<()> {
    let body =
        "{\"code\":\"POOL_UNREADY\",\"message\":\"starting\",\"retriable\":true,\"retry_after_ms\":60000}";
    let items = broken_then("503 Service Unavailable\nRetry-After: 60", body).await?;
    assert!(
        matches!(&items[..], [Ok(_), Err(ClientError::Api(_))]),
        "{items:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_restarts_is_awaited() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let serve = async {
        let mut first = server.accept().await?;
        first.open_stream().await?;
        first.write(STARTED).await?;
        first.hang_up().await?;
        server
            .accept()
            .await?
            .answer("502 Bad Gateway", "<html>proxy</html>")
            .await?;
        server.accept().await?.hang_up().await?;
        let mut last = server.accept().await?;
        assert_eq!(last.header("last-event-id"), Some("0.0"));
        last.open_stream().await?;
        last.write(END).await?;
        last.closed_by_client().await
    };
    let (seen, served) = tokio::join!(follow(&client), serve);
    served?;
    assert_eq!(seen?, ["0.0 started", "0.99 end"]);
    Ok(())
}
