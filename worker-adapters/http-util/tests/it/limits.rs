//! Each way a peer can misbehave, and the error that tells it apart.

use std::error::Error;

use http::StatusCode;
use http_util::client::MAX_REPLY_BYTES;
use http_util::{ClientOptions, HttpError, Request};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::server::{SHORT, Server, Step, endpoint, patient, reply, say, stream_head};

pub(crate) async fn failure(server: &Server, options: ClientOptions) -> anyhow::Result<HttpError> {
    let outcome = server.endpoint(options)?.send(Request::get("/")).await;
    outcome.err().ok_or_else(|| anyhow::anyhow!("the call succeeded"))
}

/// Reads a stream to its end and returns how that end looked.
async fn stream_failure(server: &Server, options: ClientOptions) -> anyhow::Result<HttpError> {
    let mut body = server.endpoint(options)?.stream(Request::get("/")).await?.body;
    loop {
        match body.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("the stream ended well"),
            Err(e) => return Ok(e),
        }
    }
}

#[tokio::test]
async fn nobody_listens() -> anyhow::Result<()> {
    let addr = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let error = endpoint(addr, patient())?
        .send(Request::get("/?key=hidden"))
        .await
        .err();
    let Some(HttpError::Connect { source, .. }) = &error else {
        anyhow::bail!("{error:?}")
    };
    let chain: Vec<_> = std::iter::successors(Some(source.as_ref() as &dyn Error), |&e| e.source())
        .map(ToString::to_string)
        .collect();
    assert!(chain.iter().any(|e| e.contains("refused")), "{chain:?}");
    assert!(!format!("{error:?} {chain:?}").contains("hidden"));
    Ok(())
}

/// A listener with a full backlog drops handshakes, as a host behind a firewall does.
#[tokio::test]
async fn nobody_answers_the_handshake() -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(0)?;
    let addr = listener.local_addr()?;
    let mut fill = Vec::new();
    while let Ok(connected) = timeout(SHORT, TcpStream::connect(addr)).await {
        fill.push(connected?);
    }
    let options = ClientOptions {
        connect_timeout: SHORT,
        ..patient()
    };
    let error = endpoint(addr, options)?.send(Request::get("/")).await.err();
    assert!(
        matches!(error, Some(HttpError::ConnectTimeout { limit: SHORT, .. })),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_head_is_late() -> anyhow::Result<()> {
    let server = Server::always(vec![Step::Hear, say("HTTP/1.1 200 OK\r\n"), Step::AwaitClose]).await?;
    let options = ClientOptions {
        connect_timeout: SHORT,
        first_byte_timeout: SHORT,
        ..patient()
    };
    let error = failure(&server, options).await?;
    assert!(
        matches!(error, HttpError::FirstByteTimeout { limit: SHORT, .. }),
        "{error:?}"
    );
    Ok(())
}

/// A request may queue in an engine for longer than a stream may be silent.
#[tokio::test]
async fn the_idle_limit_does_not_apply_to_the_head() -> anyhow::Result<()> {
    let server = Server::always(vec![Step::Hear, Step::Gate, reply("200 OK", "", "{}")]).await?;
    let endpoint = server.endpoint(ClientOptions {
        idle_timeout: SHORT,
        ..patient()
    })?;
    let call = endpoint.stream(Request::get("/"));
    tokio::pin!(call);
    assert!(
        timeout(3 * SHORT, &mut call).await.is_err(),
        "no head was sent yet"
    );
    server.open_gate();
    assert_eq!(call.await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn the_body_falls_silent() -> anyhow::Result<()> {
    let mut server = Server::always(vec![
        Step::Hear,
        stream_head(),
        say("3\r\nabc\r\n"),
        Step::AwaitClose,
    ])
    .await?;
    let error = stream_failure(
        &server,
        ClientOptions {
            idle_timeout: SHORT,
            ..patient()
        },
    )
    .await?;
    assert!(
        matches!(
            error,
            HttpError::IdleTimeout {
                limit: SHORT,
                bytes_received: 3,
                ..
            }
        ),
        "{error:?}"
    );
    server.wait_for(|seen| seen.closed_by_peer == 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_short_call_drips() -> anyhow::Result<()> {
    let drip = vec![Step::Hear, stream_head(), say("1\r\nx\r\n"), Step::AwaitClose];
    let server = Server::always(drip).await?;
    let error = failure(
        &server,
        ClientOptions {
            request_timeout: Some(SHORT),
            ..patient()
        },
    )
    .await?;
    assert!(
        matches!(error, HttpError::RequestTimeout { limit: SHORT, .. }),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_connection_dies_before_the_head() -> anyhow::Result<()> {
    let endings = [
        vec![],
        vec![Step::Reset],
        vec![say("HTTP/1.1 200 OK\r\ncontent-")],
    ];
    for ending in endings {
        let server = Server::always([vec![Step::Hear], ending].concat()).await?;
        let error = failure(&server, patient()).await?;
        assert!(matches!(error, HttpError::NoResponse { .. }), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_body_breaks_off() -> anyhow::Result<()> {
    let chunked = |rest: &str| vec![stream_head(), say("3\r\nabc\r\n"), say(rest)];
    let endings = [
        [chunked(""), vec![Step::Gate, Step::Reset]].concat(),
        chunked(""),
        chunked("5\r\nde"),
        chunked("not-hex\r\n"),
        vec![say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")],
    ];
    for ending in endings {
        let server = Server::always([vec![Step::Hear], ending.clone()].concat()).await?;
        let mut body = server.endpoint(patient())?.stream(Request::get("/")).await?.body;
        let mut error = body
            .chunk()
            .await
            .map(|first| assert_eq!(first.as_deref(), Some(b"abc".as_slice())))
            .err();
        server.open_gate();
        while error.is_none() {
            error = body
                .chunk()
                .await
                .map(|more| assert!(more.is_some(), "{ending:?} ended well"))
                .err();
        }
        assert!(
            matches!(
                error,
                Some(HttpError::Reset {
                    bytes_received: 3..=5,
                    ..
                })
            ),
            "{ending:?}: {error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_peer_does_not_speak_http() -> anyhow::Result<()> {
    let server = Server::always(vec![Step::Hear, say("SSH-2.0-OpenSSH_9.2\r\n"), Step::AwaitClose]).await?;
    let error = failure(&server, patient()).await?;
    assert!(matches!(error, HttpError::Protocol { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn the_reply_is_too_large() -> anyhow::Result<()> {
    let announced = say(&format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        MAX_REPLY_BYTES + 1
    ));
    let flood = Step::Flood([b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat());
    for script in [
        vec![Step::Hear, announced, Step::AwaitClose],
        vec![Step::Hear, stream_head(), flood],
    ] {
        let server = Server::always(script).await?;
        let error = failure(&server, patient()).await?;
        assert!(
            matches!(
                error,
                HttpError::BodyTooLarge {
                    limit: MAX_REPLY_BYTES,
                    ..
                }
            ),
            "{error:?}"
        );
    }
    Ok(())
}

/// The pool limit does not limit streams in parallel.
#[tokio::test]
async fn streams_do_not_wait_for_each_other() -> anyhow::Result<()> {
    const STREAMS: usize = 100;
    let script = vec![Step::Hear, stream_head(), Step::Gate, say("1\r\nx\r\n0\r\n\r\n")];
    let mut server = Server::always(script).await?;
    let endpoint = server.endpoint(patient())?;
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let endpoint = endpoint.clone();
        streams.spawn(async move { endpoint.stream(Request::get("/")).await?.body.chunk().await });
    }
    server.wait_for(|seen| seen.requests.len() == STREAMS).await?;
    (0..STREAMS).for_each(|_| server.open_gate());
    for outcome in streams.join_all().await {
        assert_eq!(outcome?.as_deref(), Some(b"x".as_slice()));
    }
    Ok(())
}
